package org.lethe.run;

import java.io.IOException;
import java.nio.channels.FileChannel;
import java.nio.channels.FileLock;
import java.nio.channels.OverlappingFileLockException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.StandardOpenOption;
import org.lethe.EnvironmentException;
import org.lethe.UserException;

/**
 * Keeps two processes from writing one run. The operating system lets go of it when a process dies,
 * however it does.
 */
final class RunLock implements AutoCloseable {
  private final Path file;
  private final FileChannel channel;

  private RunLock(Path file, FileChannel channel) {
    this.file = file;
    this.channel = channel;
  }

  /**
   * Takes the lock of a run's directory.
   *
   * @throws UserException if another run has it
   */
  static RunLock take(Path directory) {
    Path file = directory.resolve(".lock");
    FileChannel channel = null;
    try {
      channel = FileChannel.open(file, StandardOpenOption.CREATE, StandardOpenOption.WRITE);
      FileLock lock = channel.tryLock();
      if (lock == null) {
        channel.close();
        throw taken(directory, null);
      }
      return new RunLock(file, channel);
    } catch (OverlappingFileLockException e) {
      closeQuietly(channel, e);
      throw taken(directory, e);
    } catch (IOException e) {
      closeQuietly(channel, e);
      throw new EnvironmentException(
          directory + ": cannot be locked (" + e + "); check its permissions", e);
    }
  }

  private static UserException taken(Path directory, Exception cause) {
    return new UserException(
        directory + ": another process is running this run; wait for it, or stop it first", cause);
  }

  private static void closeQuietly(FileChannel channel, Exception cause) {
    if (channel != null) {
      try {
        channel.close();
      } catch (IOException e) {
        cause.addSuppressed(e);
      }
    }
  }

  @Override
  public void close() {
    try {
      Files.deleteIfExists(file);
      channel.close();
    } catch (IOException e) {
      throw new EnvironmentException(file + ": cannot be given back (" + e + ")", e);
    }
  }
}
