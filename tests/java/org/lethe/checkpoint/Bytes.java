package org.lethe.checkpoint;

import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.charset.StandardCharsets;
import java.nio.file.Path;
import java.util.List;

/** Small safetensors files, made by hand. */
final class Bytes {
  private Bytes() {}

  /** A file of a header and zero bytes of data. */
  static byte[] file(String header, int dataBytes) {
    return file(header.getBytes(StandardCharsets.UTF_8), dataBytes);
  }

  static byte[] file(byte[] header, int dataBytes) {
    return ByteBuffer.allocate(8 + header.length + dataBytes)
        .order(ByteOrder.LITTLE_ENDIAN)
        .putLong(header.length)
        .put(header)
        .array();
  }

  /** Writes tensors through {@link OutputDirectory} and {@link SafetensorsWriter}. */
  static void write(
      Path directory, String file, List<TensorSpec> specs, FloatStream.Supplier values) {
    OutputDirectory.write(
        directory,
        true,
        0,
        out -> {
          try (var channel = out.open(file)) {
            SafetensorsWriter writer = new SafetensorsWriter(channel, specs);
            for (TensorSpec spec : specs) {
              FloatStream.write(writer, spec, values);
            }
            writer.finish();
          }
        });
  }
}
