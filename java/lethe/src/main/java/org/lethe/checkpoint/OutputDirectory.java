package org.lethe.checkpoint;

import java.io.IOException;
import java.io.InputStream;
import java.nio.ByteBuffer;
import java.nio.channels.WritableByteChannel;
import java.nio.charset.StandardCharsets;
import java.nio.file.DirectoryStream;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.UUID;
import org.lethe.EnvironmentException;
import org.lethe.UserException;

/**
 * Writes a directory whole or not at all. Files go into a sibling of the target, are forced to the
 * disk, and take the target's name at the end; what was there before is moved aside first and
 * deleted last. Whatever fails on the way, the old content is at its place afterwards.
 *
 * <p>A crash of the machine between the two renames leaves the old content whole beside the target,
 * in a directory named {@code .NAME.old-ID}, and the new one in {@code .NAME.new-ID}.
 */
public final class OutputDirectory {
  private static final int COPY_BYTES = 1 << 20;

  private OutputDirectory() {}

  /** Writes the files of a directory. */
  @FunctionalInterface
  public interface Content {
    /** Writes all files; an exception leaves the target as it was. */
    void writeTo(Sink out) throws IOException;
  }

  /**
   * The files of a directory being written; not to be used after {@link Content#writeTo} returned.
   */
  public static final class Sink {
    private final Storage storage;
    private final Path directory;
    private int open;

    private Sink(Storage storage, Path directory) {
      this.storage = storage;
      this.directory = directory;
    }

    /**
     * Creates a file. Closing the channel forces its content to the disk.
     *
     * @param name a plain file name
     * @throws UserException if the name is not plain
     * @throws IOException if the file cannot be created or was created before
     */
    public WritableByteChannel open(String name) throws IOException {
      Path file = directory.resolve(name).normalize();
      if (name.isEmpty() || !directory.equals(file.getParent())) {
        throw new UserException("'" + name + "' is not a plain file name; give one without '/'");
      }
      WritableByteChannel channel = storage.create(file);
      open++;
      return new WritableByteChannel() {
        @Override
        public int write(ByteBuffer bytes) throws IOException {
          return channel.write(bytes);
        }

        @Override
        public boolean isOpen() {
          return channel.isOpen();
        }

        @Override
        public void close() throws IOException {
          if (channel.isOpen()) {
            try (channel) {
              storage.force(channel);
              open--;
            }
          }
        }
      };
    }

    /** Writes a text file in UTF-8. */
    public void writeString(String name, String text) throws IOException {
      try (WritableByteChannel channel = open(name)) {
        writeFully(channel, ByteBuffer.wrap(text.getBytes(StandardCharsets.UTF_8)));
      }
    }

    /**
     * Copies a file, such as a tokenizer's.
     *
     * @throws UserException if the source does not exist or is not a file
     */
    public void copy(Path source, String name) throws IOException {
      if (!Files.isRegularFile(source)) {
        throw new UserException(source + ": no such file; it was to be copied to the output");
      }
      byte[] piece = new byte[COPY_BYTES];
      try (InputStream in = Files.newInputStream(source);
          WritableByteChannel channel = open(name)) {
        for (int count = in.read(piece); count >= 0; count = in.read(piece)) {
          writeFully(channel, ByteBuffer.wrap(piece, 0, count));
        }
      }
    }

    private static void writeFully(WritableByteChannel channel, ByteBuffer bytes)
        throws IOException {
      while (bytes.hasRemaining()) {
        channel.write(bytes);
      }
    }
  }

  /**
   * Checks what can be checked before a long run: that the target may be written, and that there is
   * room. {@link #write} checks again.
   *
   * @param expectedBytes what will be written, 0 if not known
   * @throws UserException if the target is a file, or not empty and not to be overwritten
   * @throws EnvironmentException if the disk has less room
   */
  public static void check(Path target, boolean overwrite, long expectedBytes) {
    check(new Storage(), target, overwrite, expectedBytes);
  }

  /**
   * Writes a directory whole or not at all. The target's parents are created.
   *
   * @param overwrite whether a target with content is replaced, all of it
   * @param expectedBytes what will be written, checked against the room on the disk; 0 if not known
   * @throws UserException if the target is a file, or not empty and not to be overwritten
   * @throws EnvironmentException if the disk has less room or writing fails
   */
  public static void write(Path target, boolean overwrite, long expectedBytes, Content content) {
    write(new Storage(), target, overwrite, expectedBytes, content);
  }

  static void write(
      Storage storage, Path target, boolean overwrite, long expectedBytes, Content content) {
    check(storage, target, overwrite, expectedBytes);
    Path place = place(target);
    String id = UUID.randomUUID().toString();
    Path fresh = place.resolveSibling("." + place.getFileName() + ".new-" + id);
    Path old = place.resolveSibling("." + place.getFileName() + ".old-" + id);
    try {
      Files.createDirectories(place.getParent());
      storage.createDirectory(fresh);
      Sink sink = new Sink(storage, fresh);
      content.writeTo(sink);
      if (sink.open != 0) {
        throw new IOException(sink.open + " of the files were not closed");
      }
      storage.forceDirectory(fresh);
      install(storage, fresh, place, old);
    } catch (IOException e) {
      EnvironmentException failure = failure(storage, target, expectedBytes, e);
      discard(storage, fresh, failure);
      throw failure;
    } catch (RuntimeException | Error e) {
      discard(storage, fresh, e);
      throw e;
    }
    try {
      if (Files.exists(old)) {
        storage.deleteTree(old);
      }
    } catch (IOException e) {
      throw new EnvironmentException(
          target
              + ": is written, but what it replaced could not be deleted ("
              + e
              + "); delete "
              + old
              + " yourself",
          e);
    }
  }

  /** Swaps the fresh directory in; on failure the old one is back at its place. */
  private static void install(Storage storage, Path fresh, Path place, Path old)
      throws IOException {
    boolean replaces = Files.exists(place);
    if (replaces) {
      storage.move(place, old);
    }
    boolean installed = false;
    try {
      storage.move(fresh, place);
      installed = true;
      storage.forceDirectory(place.getParent());
    } catch (IOException e) {
      try {
        if (installed) {
          storage.move(place, fresh);
        }
        if (replaces) {
          storage.move(old, place);
        }
      } catch (IOException again) {
        e.addSuppressed(again);
        throw new EnvironmentException(
            place
                + ": could not be written ("
                + e
                + ") and the state before could not be brought back ("
                + again
                + ")"
                + (replaces ? "; the old content is whole in " + old + ", move it back" : "")
                + "; check the disk",
            e);
      }
      throw e;
    }
  }

  private static void discard(Storage storage, Path fresh, Throwable cause) {
    try {
      if (Files.exists(fresh)) {
        storage.deleteTree(fresh);
      }
    } catch (IOException e) {
      cause.addSuppressed(e);
    }
  }

  private static EnvironmentException failure(
      Storage storage, Path target, long expectedBytes, IOException e) {
    List<String> room = new ArrayList<>();
    if (expectedBytes > 0) {
      room.add(expectedBytes + " bytes needed");
    }
    try {
      room.add(storage.usableBytes(existingParent(target)) + " bytes available");
    } catch (IOException unknown) {
      e.addSuppressed(unknown);
    }
    return new EnvironmentException(
        target
            + ": could not be written ("
            + e
            + (room.isEmpty() ? "" : "; " + String.join(", ", room))
            + "); what was there before is unchanged, free space or choose another place",
        e);
  }

  private static void check(Storage storage, Path target, boolean overwrite, long expectedBytes) {
    try {
      if (Files.exists(target)) {
        if (!Files.isDirectory(target)) {
          throw new UserException(target + ": is a file; choose another place for the output");
        }
        if (!overwrite && !isEmpty(target)) {
          throw new UserException(
              target + ": is not empty; choose another place or allow overwriting");
        }
      }
      if (expectedBytes > 0) {
        long usable = storage.usableBytes(existingParent(target));
        if (usable < expectedBytes) {
          throw new EnvironmentException(
              target
                  + ": needs "
                  + expectedBytes
                  + " bytes where "
                  + usable
                  + " are available; free space or choose another place");
        }
      }
    } catch (IOException e) {
      throw new EnvironmentException(
          target + ": cannot be looked at (" + e + "); check its permissions", e);
    }
  }

  private static boolean isEmpty(Path directory) throws IOException {
    try (DirectoryStream<Path> entries = Files.newDirectoryStream(directory)) {
      return !entries.iterator().hasNext();
    }
  }

  /** The target with links resolved, so that a link to a directory keeps pointing at it. */
  private static Path place(Path target) {
    Path place = target.toAbsolutePath().normalize();
    try {
      place = Files.exists(target) ? target.toRealPath() : place;
    } catch (IOException e) {
      throw new EnvironmentException(
          target + ": cannot be looked at (" + e + "); check its permissions", e);
    }
    if (place.getFileName() == null) {
      throw new UserException(target + ": is the root directory; choose another place");
    }
    return place;
  }

  private static Path existingParent(Path target) {
    Path path = target.toAbsolutePath().normalize();
    while (!Files.exists(path) && path.getParent() != null) {
      path = path.getParent();
    }
    return path;
  }
}
