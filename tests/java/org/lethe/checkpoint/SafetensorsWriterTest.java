package org.lethe.checkpoint;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.io.ByteArrayOutputStream;
import java.io.IOException;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.channels.Channels;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.List;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.lethe.UserException;

class SafetensorsWriterTest {
  private static final List<TensorSpec> SPECS =
      List.of(
          TensorSpec.of("z", StoredDtype.F32, 2),
          TensorSpec.of("none", StoredDtype.F32, 0),
          TensorSpec.of("a", StoredDtype.U8, 3));

  private final ByteArrayOutputStream bytes = new ByteArrayOutputStream();

  private SafetensorsWriter writer(List<TensorSpec> specs) throws IOException {
    return new SafetensorsWriter(Channels.newChannel(bytes), specs);
  }

  @Test
  void writesTheDeclaredOrderBehindAnAlignedHeader() throws IOException {
    SafetensorsWriter writer = writer(SPECS);
    writer.write("z", ByteBuffer.allocate(5));
    writer.write("z", ByteBuffer.allocate(3));
    writer.write("a", ByteBuffer.wrap(new byte[] {1, 2, 3}));
    writer.finish();
    byte[] file = bytes.toByteArray();
    long header = ByteBuffer.wrap(file).order(ByteOrder.LITTLE_ENDIAN).getLong();
    assertEquals(0, header % 8);
    assertEquals(
        "{\"__metadata__\":{\"format\":\"pt\"},"
            + "\"z\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8]},"
            + "\"none\":{\"dtype\":\"F32\",\"shape\":[0],\"data_offsets\":[8,8]},"
            + "\"a\":{\"dtype\":\"U8\",\"shape\":[3],\"data_offsets\":[8,11]}}",
        new String(file, 8, (int) header, StandardCharsets.UTF_8).stripTrailing());
    assertEquals(file.length, SafetensorsWriter.fileBytes(SPECS));
    assertEquals(3, file[file.length - 1]);
  }

  @Test
  void refusesBytesOutOfOrderTooManyOrTooFew() throws IOException {
    SafetensorsWriter writer = writer(SPECS);
    assertTrue(
        assertThrows(UserException.class, () -> writer.write("a", ByteBuffer.allocate(1)))
            .getMessage()
            .contains("'z' is due"));
    writer.write("z", ByteBuffer.allocate(4));
    assertThrows(UserException.class, () -> writer.write("z", ByteBuffer.allocate(5)));
    assertTrue(
        assertThrows(UserException.class, writer::finish).getMessage().contains("4 of its 8"));
    writer.write("z", ByteBuffer.allocate(4));
    writer.write("a", ByteBuffer.allocate(3));
    writer.finish();
    assertThrows(UserException.class, () -> writer.write("a", ByteBuffer.allocate(1)));
  }

  @Test
  void refusesImpossibleDeclarations() {
    TensorSpec one = TensorSpec.of("a", StoredDtype.F32, 1);
    assertThrows(UserException.class, () -> writer(List.of(one, one)));
    assertThrows(UserException.class, () -> writer(List.of(TensorSpec.of("", StoredDtype.F32))));
    assertThrows(
        UserException.class, () -> writer(List.of(TensorSpec.of("__metadata__", StoredDtype.F32))));
    assertThrows(
        UserException.class, () -> writer(List.of(TensorSpec.of("a", StoredDtype.F32, -1))));
    assertThrows(
        UserException.class,
        () -> writer(List.of(TensorSpec.of("a", StoredDtype.F32, 1L << 40, 1L << 40))));
  }

  @Test
  void aFileComesBackFromDisk(@TempDir Path dir) throws IOException {
    List<TensorSpec> specs =
        List.of(
            TensorSpec.of("f32", StoredDtype.F32, 3, 100_000),
            TensorSpec.of("bf16", StoredDtype.BF16, 3),
            TensorSpec.of("f16", StoredDtype.F16, 3));
    Bytes.write(
        dir.resolve("out"),
        "m.safetensors",
        specs,
        (name, first, into) -> {
          for (int i = 0; i < into.limit(); i++) {
            into.put(first + i == 2 ? -0.5f : (float) (first + i));
          }
        });
    Path file = dir.resolve("out/m.safetensors");
    assertEquals(SafetensorsWriter.fileBytes(specs), Files.size(file));
    try (SafetensorsFile back = SafetensorsFile.open(file)) {
      for (TensorSpec spec : specs) {
        float[] values = new float[(int) back.info(spec.name()).elements()];
        FloatStream.read(
            back,
            spec.name(),
            (name, first, piece) -> piece.get(values, (int) first, piece.remaining()));
        assertArrayEquals(new float[] {0, 1, -0.5f}, java.util.Arrays.copyOf(values, 3));
        assertEquals(values.length == 3 ? -0.5f : 299_999, values[values.length - 1]);
      }
    }
  }

  @Test
  void halvesAreExactBothWays() {
    for (int bits = 0; bits < 1 << 16; bits++) {
      short half = (short) bits;
      float value = FloatStream.halfToFloat(half);
      if (!Float.isNaN(value)) {
        assertEquals(half, FloatStream.floatToHalf(value));
      }
      float wide = Float.intBitsToFloat(bits << 16);
      if (!Float.isNaN(wide)) {
        assertEquals(half, FloatStream.floatToBfloat16(wide));
      }
    }
    assertEquals(0x3c00, FloatStream.floatToHalf(1f));
    assertEquals(0x7c00, FloatStream.floatToHalf(65520f));
    assertEquals(0x7bff, FloatStream.floatToHalf(65519.996f));
    assertEquals((short) 0xfc00, FloatStream.floatToHalf(Float.NEGATIVE_INFINITY));
    assertEquals(0x0001, FloatStream.floatToHalf(0x1.8p-25f));
    assertEquals(0x0000, FloatStream.floatToHalf(0x1p-25f));
    assertEquals(0x0400, FloatStream.floatToHalf(0x1.fffffep-15f));
    // Halfway between two halves: to the even one.
    assertEquals(0x3c00, FloatStream.floatToHalf(1f + 0x1p-11f));
    assertEquals(0x3c02, FloatStream.floatToHalf(1f + 0x1.8p-10f));
    assertTrue(Float.isNaN(FloatStream.halfToFloat(FloatStream.floatToHalf(Float.NaN))));
    assertEquals(0x3f80, FloatStream.floatToBfloat16(1f + 0x1p-8f));
    assertEquals(0x3f82, FloatStream.floatToBfloat16(1f + 0x1.8p-7f));
    assertEquals(0x7f80, FloatStream.floatToBfloat16(Float.MAX_VALUE));
    float thinNan = Float.intBitsToFloat(0x7f800001);
    assertTrue(Float.isNaN(Float.intBitsToFloat(FloatStream.floatToBfloat16(thinNan) << 16)));
  }
}
