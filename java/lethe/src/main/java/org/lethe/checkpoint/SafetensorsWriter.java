package org.lethe.checkpoint;

import com.fasterxml.jackson.databind.ObjectMapper;
import com.fasterxml.jackson.databind.node.ObjectNode;
import java.io.IOException;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.channels.WritableByteChannel;
import java.nio.charset.StandardCharsets;
import java.util.Arrays;
import java.util.HashSet;
import java.util.List;
import java.util.Set;
import org.lethe.UserException;

/**
 * Writes a safetensors file piece by piece: all tensors are declared first, then their bytes follow
 * in the declared order. The same declarations give the same bytes. One thread at a time.
 */
public final class SafetensorsWriter {
  private static final int ALIGNMENT = 8;

  private final WritableByteChannel channel;
  private final List<TensorSpec> tensors;
  private int current;
  private long written;

  /**
   * Writes the header.
   *
   * @param channel takes the file's bytes; stays the caller's to close
   * @param tensors in the order their bytes will come
   * @throws UserException if a name is empty, reserved or given twice, or a shape is impossible
   * @throws IOException if the channel fails
   */
  public SafetensorsWriter(WritableByteChannel channel, List<TensorSpec> tensors)
      throws IOException {
    this.channel = channel;
    this.tensors = List.copyOf(tensors);
    writeFully(header(this.tensors));
  }

  /** Bytes of the whole file: header and data. */
  public static long fileBytes(List<TensorSpec> tensors) {
    long bytes = header(tensors).remaining();
    for (TensorSpec tensor : tensors) {
      bytes = Math.addExact(bytes, tensor.bytes());
    }
    return bytes;
  }

  private static ByteBuffer header(List<TensorSpec> tensors) {
    ObjectNode root = new ObjectMapper().createObjectNode();
    // transformers refuses files whose metadata does not name a format.
    root.putObject("__metadata__").put("format", "pt");
    Set<String> names = new HashSet<>();
    long at = 0;
    for (TensorSpec tensor : tensors) {
      if (tensor.name().isEmpty() || tensor.name().equals("__metadata__")) {
        throw new UserException(
            "a tensor cannot be named '" + tensor.name() + "'; give it another name");
      }
      if (!names.add(tensor.name())) {
        throw new UserException("tensor '" + tensor.name() + "' is declared twice; name it once");
      }
      long end = Math.addExact(at, tensor.bytes());
      ObjectNode node = root.putObject(tensor.name()).put("dtype", tensor.dtype().name());
      tensor.shape().forEach(node.putArray("shape")::add);
      node.putArray("data_offsets").add(at).add(end);
      at = end;
    }
    byte[] json = root.toString().getBytes(StandardCharsets.UTF_8);
    int padded = (json.length + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
    if (padded > SafetensorsFile.MAX_HEADER_BYTES) {
      throw new UserException(
          "a header of " + padded + " bytes is more than safetensors allows; write fewer tensors");
    }
    byte[] spaces = new byte[padded - json.length];
    Arrays.fill(spaces, (byte) ' ');
    return ByteBuffer.allocate(Long.BYTES + padded)
        .order(ByteOrder.LITTLE_ENDIAN)
        .putLong(padded)
        .put(json)
        .put(spaces)
        .flip();
  }

  /**
   * Appends bytes to a tensor, which must be the one declared next.
   *
   * @param bytes little-endian elements, or a part of them; consumed whole
   * @throws UserException if another tensor is due or the tensor would become too long
   * @throws IOException if the channel fails
   */
  public void write(String name, ByteBuffer bytes) throws IOException {
    skipComplete(name);
    if (current == tensors.size() || !tensors.get(current).name().equals(name)) {
      throw new UserException(
          "bytes of tensor '"
              + name
              + "' came where "
              + due()
              + "; write the tensors whole and in the order declared");
    }
    long bytesDue = tensors.get(current).bytes() - written;
    if (bytes.remaining() > bytesDue) {
      throw new UserException(
          bytes.remaining()
              + " bytes came for tensor '"
              + name
              + "', which has room for "
              + bytesDue
              + " more; check its declared shape and type");
    }
    written += bytes.remaining();
    writeFully(bytes);
  }

  private void skipComplete(String next) {
    while (current < tensors.size()
        && written == tensors.get(current).bytes()
        && !tensors.get(current).name().equals(next)) {
      current++;
      written = 0;
    }
  }

  private String due() {
    return current == tensors.size()
        ? "no more is due"
        : "'" + tensors.get(current).name() + "' is due";
  }

  /**
   * Checks that every declared tensor was written whole.
   *
   * @throws UserException if bytes are missing
   */
  public void finish() {
    skipComplete("");
    if (current < tensors.size()) {
      throw new UserException(
          "tensor '"
              + tensors.get(current).name()
              + "' has "
              + written
              + " of its "
              + tensors.get(current).bytes()
              + " bytes; write the tensors whole before finishing");
    }
  }

  private void writeFully(ByteBuffer bytes) throws IOException {
    while (bytes.hasRemaining()) {
      if (channel.write(bytes) == 0) {
        throw new IOException("the channel takes no more bytes");
      }
    }
  }
}
