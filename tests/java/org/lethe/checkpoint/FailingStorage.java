package org.lethe.checkpoint;

import java.io.IOException;
import java.nio.ByteBuffer;
import java.nio.channels.WritableByteChannel;
import java.nio.file.Path;

/** Fails once a budget of bytes written and of other calls is used up. */
final class FailingStorage extends Storage {
  private final int failures;
  private long bytesLeft;
  private int callsLeft;
  private int failed;

  FailingStorage(long bytes, int calls, int failures) {
    bytesLeft = bytes;
    callsLeft = calls;
    this.failures = failures;
  }

  private void call() throws IOException {
    callsLeft--;
    if (callsLeft < 0 && failed < failures) {
      failed++;
      throw new IOException("injected");
    }
  }

  @Override
  WritableByteChannel create(Path file) throws IOException {
    call();
    WritableByteChannel channel = super.create(file);
    return new WritableByteChannel() {
      @Override
      public int write(ByteBuffer bytes) throws IOException {
        int count = (int) Math.min(bytesLeft, bytes.remaining());
        if (count == 0) {
          failed++;
          throw new IOException("No space left on device");
        }
        bytesLeft -= count;
        ByteBuffer part = bytes.slice().limit(count);
        channel.write(part);
        bytes.position(bytes.position() + count);
        return count;
      }

      @Override
      public boolean isOpen() {
        return channel.isOpen();
      }

      @Override
      public void close() throws IOException {
        channel.close();
      }
    };
  }

  @Override
  void force(WritableByteChannel channel) throws IOException {
    call();
  }

  @Override
  void createDirectory(Path directory) throws IOException {
    call();
    super.createDirectory(directory);
  }

  @Override
  void forceDirectory(Path directory) throws IOException {
    call();
    super.forceDirectory(directory);
  }

  @Override
  void move(Path from, Path to) throws IOException {
    call();
    super.move(from, to);
  }

  /** Failures so far. */
  int failed() {
    return failed;
  }
}
