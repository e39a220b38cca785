package org.lethe.checkpoint;

import java.io.BufferedReader;
import java.io.ByteArrayInputStream;
import java.io.IOException;
import java.io.InputStreamReader;
import java.io.Reader;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.channels.FileChannel;
import java.nio.charset.CodingErrorAction;
import java.nio.charset.StandardCharsets;
import java.nio.file.NoSuchFileException;
import java.nio.file.Path;
import java.nio.file.StandardOpenOption;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.Set;
import org.lethe.UserException;

/**
 * A safetensors file, read strictly: whatever the reference implementation (Rust crate {@code
 * safetensors}) refuses is refused here, with the file, the tensor and the remedy in the message.
 *
 * <p>Layout: 8 bytes header length (little-endian), the header (JSON), the tensors' data.
 */
public final class SafetensorsFile implements TensorSource {
  /** The reference implementation's limit. */
  static final long MAX_HEADER_BYTES = 100_000_000;

  /** Below 2 GiB, the most one buffer can address, and a multiple of every element size. */
  private static final long WINDOW_BYTES = 1L << 30;

  private static final int LENGTH_BYTES = 8;

  private final Path path;
  private final FileChannel channel;
  private final long dataStart;
  private final SafetensorsHeader header;

  private SafetensorsFile(
      Path path, FileChannel channel, long dataStart, SafetensorsHeader header) {
    this.path = path;
    this.channel = channel;
    this.dataStart = dataStart;
    this.header = header;
  }

  /**
   * Opens a file and checks its header against its length.
   *
   * @throws UserException if the file is missing, unreadable, truncated or not valid safetensors
   */
  public static SafetensorsFile open(Path path) {
    try {
      FileChannel channel = FileChannel.open(path, StandardOpenOption.READ);
      try {
        return open(path, channel);
      } catch (IOException | RuntimeException e) {
        channel.close();
        throw e;
      }
    } catch (NoSuchFileException e) {
      throw new UserException(path + ": no such file; check the path", e);
    } catch (IOException e) {
      throw unreadable(path, e);
    }
  }

  private static SafetensorsFile open(Path path, FileChannel channel) throws IOException {
    long fileBytes = channel.size();
    if (fileBytes < LENGTH_BYTES) {
      throw new UserException(
          path
              + ": "
              + fileBytes
              + " bytes are too few for a safetensors file; it is truncated, get it again");
    }
    long headerBytes =
        ByteBuffer.wrap(readExactly(path, channel, 0, LENGTH_BYTES))
            .order(ByteOrder.LITTLE_ENDIAN)
            .getLong();
    if (headerBytes < 0 || headerBytes > MAX_HEADER_BYTES) {
      throw new UserException(
          path
              + ": a header of "
              + Long.toUnsignedString(headerBytes)
              + " bytes is over the limit of "
              + MAX_HEADER_BYTES
              + "; this is not a safetensors file, or it is damaged");
    }
    if (headerBytes > fileBytes - LENGTH_BYTES) {
      throw new UserException(
          path
              + ": the file is truncated: its header takes "
              + headerBytes
              + " bytes and the file has "
              + fileBytes
              + " in all; get it again");
    }
    byte[] json = readExactly(path, channel, LENGTH_BYTES, (int) headerBytes);
    if (headerBytes == 0 || json[0] != '{') {
      throw new UserException(
          path + ": the header does not begin with '{'; this is not a safetensors file");
    }
    long dataStart = LENGTH_BYTES + headerBytes;
    try (Reader reader =
        new BufferedReader(
            new InputStreamReader(
                new ByteArrayInputStream(json),
                StandardCharsets.UTF_8
                    .newDecoder()
                    .onMalformedInput(CodingErrorAction.REPORT)
                    .onUnmappableCharacter(CodingErrorAction.REPORT)))) {
      return new SafetensorsFile(
          path, channel, dataStart, SafetensorsHeader.parse(path, reader, fileBytes - dataStart));
    }
  }

  private static byte[] readExactly(Path path, FileChannel channel, long position, int count)
      throws IOException {
    byte[] bytes = new byte[count];
    fill(path, channel, position, ByteBuffer.wrap(bytes));
    return bytes;
  }

  private static void fill(Path path, FileChannel channel, long position, ByteBuffer buffer)
      throws IOException {
    long at = position;
    while (buffer.hasRemaining()) {
      int count = channel.read(buffer, at);
      if (count < 0) {
        throw new UserException(
            path
                + ": the file ended at byte "
                + at
                + " while being read; it was changed meanwhile");
      }
      at += count;
    }
  }

  private static UserException unreadable(Path path, IOException e) {
    return new UserException(
        path + ": cannot be read (" + e + "); check that it is a readable file", e);
  }

  /** The {@code __metadata__} map; empty without one. */
  public Map<String, String> metadata() {
    return header.metadata();
  }

  @Override
  public Set<String> names() {
    return header.tensors().keySet();
  }

  @Override
  public TensorInfo info(String name) {
    TensorInfo info = header.tensors().get(name);
    if (info == null) {
      throw new UserException(
          path + ": has no tensor '" + name + "'; check that the file belongs to this model");
    }
    return info;
  }

  @Override
  public Path file(String name) {
    info(name);
    return path;
  }

  @Override
  public int readInto(String name, long offset, ByteBuffer into) {
    TensorInfo info = info(name);
    if (offset < 0 || offset > info.bytes()) {
      throw new UserException(
          path
              + ": tensor '"
              + name
              + "' has "
              + info.bytes()
              + " bytes, none at offset "
              + offset
              + "; ask for an offset inside");
    }
    int count = (int) Math.min(into.remaining(), info.bytes() - offset);
    int limit = into.limit();
    into.limit(into.position() + count);
    try {
      fill(path, channel, dataStart + info.begin() + offset, into);
    } catch (IOException e) {
      throw unreadable(path, e);
    } finally {
      into.limit(limit);
    }
    return count;
  }

  @Override
  public List<ByteBuffer> slices(String name) {
    return slices(name, WINDOW_BYTES);
  }

  List<ByteBuffer> slices(String name, long windowBytes) {
    TensorInfo info = info(name);
    List<ByteBuffer> slices = new ArrayList<>();
    try {
      for (long at = 0; at < info.bytes(); at += windowBytes) {
        slices.add(
            channel
                .map(
                    FileChannel.MapMode.READ_ONLY,
                    dataStart + info.begin() + at,
                    Math.min(windowBytes, info.bytes() - at))
                .order(ByteOrder.LITTLE_ENDIAN));
      }
    } catch (IOException e) {
      throw unreadable(path, e);
    }
    return List.copyOf(slices);
  }

  @Override
  public void close() {
    try {
      channel.close();
    } catch (IOException e) {
      throw unreadable(path, e);
    }
  }
}
