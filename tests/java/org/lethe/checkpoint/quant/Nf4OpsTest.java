package org.lethe.checkpoint.quant;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.util.Arrays;
import java.util.Random;
import org.bytedeco.javacpp.BytePointer;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;
import org.lethe.NativeException;
import org.lethe.internal.abi.Abi;
import org.lethe.kernels.Backend;
import org.lethe.kernels.Buffer;
import org.lethe.kernels.Dtype;
import org.lethe.kernels.Nf4Scales;
import org.lethe.kernels.Ops;
import org.lethe.kernels.Staging;
import org.lethe.model.quant.DynamicMap;
import org.lethe.model.quant.NestedScales;

/** The NF4 ops against this package's arithmetic, equal to the bit. */
class Nf4OpsTest {
  private static final int ROOM = 1 << 17;

  private static float[] weights(int count, int blockSize, long seed) {
    Random random = new Random(seed);
    float[] values = new float[count];
    for (int i = 0; i < count; i++) {
      values[i] = (float) (random.nextGaussian() * 0.02);
    }
    // Numbers on thresholds and beside them: a block whose largest is 1.
    for (int code = 1; code < FourBit.CODES && 3 * code + 2 < Math.min(count, blockSize); code++) {
      float middle = (FourBit.NF4.value(code - 1) + FourBit.NF4.value(code)) * 0.5f;
      values[0] = 1;
      values[3 * code] = middle;
      values[3 * code + 1] = Math.nextUp(middle);
      values[3 * code + 2] = Math.nextDown(middle);
    }
    return values;
  }

  @ParameterizedTest
  @CsvSource({"1, 64", "33, 32", "4096, 64", "10007, 64", "20000, 4096"})
  void codesScalesAndValuesAreThose(int count, int blockSize) {
    float[] values = weights(count, blockSize, count);
    int blocks = (int) FourBitBlocks.blocks(count, blockSize);
    float[] scales = new float[blocks];
    byte[] packed = new byte[(int) FourBitBlocks.packedBytes(count)];
    FourBitBlocks.scales(values, count, blockSize, scales);
    FourBitBlocks.pack(FourBit.NF4, values, count, blockSize, scales, packed);
    float[] back = new float[count];
    FourBitBlocks.unpack(FourBit.NF4, packed, blockSize, scales, 0, back);
    try (Backend backend = Backend.open("cpu", 2);
        Staging staging = new Staging(ROOM * 2);
        Buffer source = backend.allocate(ROOM);
        BytePointer codes = new BytePointer(packed.length + 2L);
        Buffer wrapped = backend.wrap(codes, packed.length + 2L);
        Buffer scale = backend.allocate(ROOM);
        Buffer result = backend.allocate(ROOM)) {
      Ops ops = new Ops(backend, Dtype.F32);
      staging.upload(values, count, source, 0);
      ops.nf4Quantize(count, blockSize, source.at(0), wrapped.at(0), scale.at(0));
      byte[] gotCodes = new byte[packed.length];
      codes.get(gotCodes);
      assertArrayEquals(packed, gotCodes);
      assertBits(scales, read(staging, scale, blocks));
      Nf4Scales plain = Nf4Scales.plain(scale.at(0));
      ops.nf4Dequantize(count, blockSize, wrapped.at(0), plain, result.at(0));
      assertBits(back, read(staging, result, count));
    }
  }

  @Test
  void doubleQuantisationIsThat() {
    int blockSize = 64;
    int blocks = 700;
    int count = blocks * blockSize;
    float[] values = weights(count, blockSize, 9);
    float[] scales = new float[blocks];
    FourBitBlocks.scales(values, count, blockSize, scales);
    byte[] packed = new byte[count / 2];
    FourBitBlocks.pack(FourBit.NF4, values, count, blockSize, scales, packed);
    NestedScales nested = NestedScales.of(scales);
    float[] map = DynamicMap.values();
    float[] again = new float[blocks];
    for (int i = 0; i < blocks; i++) {
      float blockScale = nested.scales()[i / NestedScales.BLOCK_SIZE];
      again[i] = NestedScales.scale(map, nested.codes()[i], blockScale, nested.offset());
    }
    float[] expected = new float[count];
    FourBitBlocks.unpack(FourBit.NF4, packed, blockSize, again, 0, expected);
    try (Backend backend = Backend.open("cpu", 2);
        Staging staging = new Staging(ROOM * 2);
        BytePointer codes = new BytePointer(packed);
        Buffer packedCodes = backend.wrap(codes, packed.length);
        BytePointer scaleCodes = new BytePointer(nested.codes());
        Buffer nestedCodes = backend.wrap(scaleCodes, blocks);
        Buffer values256 = backend.allocate(DynamicMap.SIZE * Float.BYTES);
        Buffer largest = backend.allocate(64);
        Buffer result = backend.allocate((long) count * Float.BYTES)) {
      staging.upload(map, map.length, values256, 0);
      staging.upload(nested.scales(), nested.scales().length, largest, 0);
      Nf4Scales given =
          new Nf4Scales(0, nestedCodes.at(0), values256.at(0), largest.at(0), nested.offset());
      new Ops(backend, Dtype.F32)
          .nf4Dequantize(count, blockSize, packedCodes.at(0), given, result.at(0));
      assertBits(expected, read(staging, result, count));
    }
  }

  @Test
  void whatIsNotFiniteIsNamed() {
    try (Backend backend = Backend.open("cpu", 2);
        Staging staging = new Staging(ROOM * 2);
        Buffer source = backend.allocate(1024);
        Buffer packed = backend.allocate(1024);
        Buffer scale = backend.allocate(1024)) {
      float[] values = weights(100, 64, 3);
      values[71] = Float.NaN;
      staging.upload(values, values.length, source, 0);
      Ops ops = new Ops(backend, Dtype.F32);
      NativeException refused =
          assertThrows(
              NativeException.class,
              () -> {
                ops.nf4Quantize(100, 64, source.at(0), packed.at(0), scale.at(0));
                backend.synchronize();
              });
      assertEquals(Abi.LETHE_INVALID_ARGUMENT, refused.status());
      assertTrue(refused.getMessage().contains("src[71]"), refused.getMessage());
    }
  }

  private static float[] read(Staging staging, Buffer buffer, int count) {
    float[] values = new float[count];
    staging.download(buffer, 0, values, count);
    return values;
  }

  private static void assertBits(float[] expected, float[] got) {
    assertArrayEquals(bits(expected), bits(got));
  }

  private static int[] bits(float[] values) {
    int[] bits = new int[values.length];
    Arrays.setAll(bits, i -> Float.floatToRawIntBits(values[i]));
    return bits;
  }
}
