package org.lethe.report;

import com.fasterxml.jackson.core.JsonProcessingException;
import com.fasterxml.jackson.databind.ObjectMapper;
import java.io.IOException;
import java.nio.ByteBuffer;
import java.nio.channels.FileChannel;
import java.nio.charset.StandardCharsets;
import java.nio.file.Path;
import java.nio.file.StandardOpenOption;
import java.security.MessageDigest;
import java.security.NoSuchAlgorithmException;
import java.util.HexFormat;
import java.util.Map;
import org.lethe.EnvironmentException;
import org.lethe.InternalFaultException;
import org.lethe.UserException;

/** A file of JSON Lines that grows; knows its length and its SHA-256. One thread at a time. */
final class LineFile implements AutoCloseable {
  private static final int CHUNK_BYTES = 1 << 16;

  private final Path file;
  private final FileChannel channel;
  private final MessageDigest digest;
  private final ObjectMapper mapper = new ObjectMapper();
  private long bytes;

  private LineFile(Path file, FileChannel channel, MessageDigest digest, long bytes) {
    this.file = file;
    this.channel = channel;
    this.digest = digest;
    this.bytes = bytes;
  }

  /** A new file. */
  static LineFile create(Path file) throws IOException {
    return new LineFile(
        file,
        FileChannel.open(file, StandardOpenOption.CREATE_NEW, StandardOpenOption.WRITE),
        sha256Digest(),
        0);
  }

  /** Goes on with a file, or a new one; a last line that a crash left unfinished is cut off. */
  static LineFile reopen(Path file) throws IOException {
    FileChannel channel = openExisting(file);
    try {
      return cut(file, channel, finished(channel), null);
    } catch (IOException | RuntimeException e) {
      channel.close();
      throw e;
    }
  }

  /**
   * Goes on with a file behind its first {@code bytes} bytes; what follows them is cut off.
   *
   * @param sha256 of those bytes in hexadecimal, or null when it is not known
   * @throws UserException if the file is shorter, or its first bytes are not lines or others
   */
  static LineFile reopen(Path file, long bytes, String sha256) throws IOException {
    FileChannel channel = openExisting(file);
    try {
      if (bytes < 0 || channel.size() < bytes) {
        throw new UserException(
            file
                + ": has "
                + channel.size()
                + " bytes, but the run is to go on behind byte "
                + bytes
                + "; it was cut or replaced: bring it back, or start the run anew");
      }
      if (bytes > 0 && byteAt(channel, bytes - 1) != '\n') {
        throw other(file, "byte " + bytes + " ends no line");
      }
      return cut(file, channel, bytes, sha256);
    } catch (IOException | RuntimeException e) {
      channel.close();
      throw e;
    }
  }

  private static FileChannel openExisting(Path file) throws IOException {
    return FileChannel.open(
        file, StandardOpenOption.CREATE, StandardOpenOption.READ, StandardOpenOption.WRITE);
  }

  private static LineFile cut(Path file, FileChannel channel, long bytes, String sha256)
      throws IOException {
    MessageDigest digest = sha256Digest();
    ByteBuffer chunk = ByteBuffer.allocate(CHUNK_BYTES);
    for (long at = 0; at < bytes; ) {
      chunk.clear().limit((int) Math.min(CHUNK_BYTES, bytes - at));
      int read = channel.read(chunk, at);
      if (read < 0) {
        throw new IOException("became shorter while it was read");
      }
      digest.update(chunk.flip());
      at += read;
    }
    // Before anything is cut off: another run's file stays whole.
    if (sha256 != null && !sha256.equals(hex(digest))) {
      throw other(file, "its first " + bytes + " bytes have another SHA-256 than was noted");
    }
    channel.truncate(bytes);
    channel.position(bytes);
    return new LineFile(file, channel, digest, bytes);
  }

  private static UserException other(Path file, String why) {
    return new UserException(
        file
            + ": is not what the run wrote up to here ("
            + why
            + "); bring that file back, or start the run anew");
  }

  /** The length up to the last line end. */
  private static long finished(FileChannel channel) throws IOException {
    long end = channel.size();
    while (end > 0 && byteAt(channel, end - 1) != '\n') {
      end--;
    }
    return end;
  }

  private static int byteAt(FileChannel channel, long at) throws IOException {
    ByteBuffer one = ByteBuffer.allocate(1);
    return channel.read(one, at) == 1 ? one.get(0) : -1;
  }

  /** Appends a line; it is with the operating system, whole or not at all, when this returns. */
  void append(Map<String, ?> values) {
    ByteBuffer line;
    try {
      line =
          ByteBuffer.wrap(
              (mapper.writeValueAsString(values) + "\n").getBytes(StandardCharsets.UTF_8));
    } catch (JsonProcessingException e) {
      throw new UserException(
          file.getFileName()
              + ": the values cannot be written as JSON ("
              + e.getOriginalMessage()
              + "); give numbers, texts, lists or maps",
          e);
    }
    try {
      while (line.hasRemaining()) {
        channel.write(line);
      }
      digest.update(line.flip());
      bytes += line.limit();
    } catch (IOException e) {
      throw failure(undo(e));
    }
  }

  /** Cuts off what of a line found space, so that a caller who makes space can go on. */
  private IOException undo(IOException cause) {
    try {
      channel.truncate(bytes);
    } catch (IOException e) {
      cause.addSuppressed(e);
    }
    return cause;
  }

  long bytes() {
    return bytes;
  }

  /** SHA-256 of all lines, in hexadecimal. */
  String sha256() {
    return hex(digest);
  }

  /** Returns when everything is on the disk. */
  void force() {
    try {
      channel.force(true);
    } catch (IOException e) {
      throw failure(e);
    }
  }

  private static String hex(MessageDigest digest) {
    try {
      return HexFormat.of().formatHex(((MessageDigest) digest.clone()).digest());
    } catch (CloneNotSupportedException e) {
      throw new InternalFaultException("SHA-256 cannot be copied", e);
    }
  }

  private static MessageDigest sha256Digest() {
    try {
      return MessageDigest.getInstance("SHA-256");
    } catch (NoSuchAlgorithmException e) {
      throw new InternalFaultException("this Java has no SHA-256", e);
    }
  }

  private EnvironmentException failure(IOException e) {
    return new EnvironmentException(
        file + ": cannot be written (" + e + "); check its permissions and free space", e);
  }

  @Override
  public void close() {
    try (channel) {
      if (channel.isOpen()) {
        channel.force(true);
      }
    } catch (IOException e) {
      throw failure(e);
    }
  }
}
