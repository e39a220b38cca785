package org.lethe.checkpoint.quant;

/**
 * Weights as blocks of 4-bit codes with one fp32 scale each: {@code kQuantizeBlockwise} and {@code
 * kDequantizeBlockwise} of bitsandbytes. The first of two elements is the high half of a byte.
 */
public final class FourBitBlocks {
  /** Sizes of a block that bitsandbytes knows; transformers always takes 64. */
  public static boolean allows(int blockSize) {
    return blockSize >= 32 && blockSize <= 4096 && Integer.bitCount(blockSize) == 1;
  }

  private FourBitBlocks() {}

  /** Bytes that so many elements take. */
  public static long packedBytes(long elements) {
    return (elements + 1) / 2;
  }

  /** Blocks that so many elements make. */
  public static long blocks(long elements, int blockSize) {
    return (elements + blockSize - 1) / blockSize;
  }

  /** The largest magnitude of each block, in fp32. */
  public static void scales(float[] values, int count, int blockSize, float[] scales) {
    for (int block = 0; block * blockSize < count; block++) {
      float largest = 0;
      for (int i = block * blockSize; i < Math.min(count, (block + 1) * blockSize); i++) {
        largest = Math.max(largest, Math.abs(values[i]));
      }
      scales[block] = largest;
    }
  }

  /**
   * Packs whole blocks, of which only a tensor's last may be short. A block of zeros gets codes 0,
   * as on the device, where 0 · (1/0) is NaN; it still means 0.
   *
   * @param values finite, {@code count} of them from the first of a block on
   * @param scales what {@link #scales} gave
   * @param packed takes {@link #packedBytes} of {@code count}
   */
  public static void pack(
      FourBit code, float[] values, int count, int blockSize, float[] scales, byte[] packed) {
    for (int i = 0; i < count; i += 2) {
      // Blocks are even: both halves of a byte are of one block.
      float inverse = 1f / scales[i / blockSize];
      int high = code.code(values[i] * inverse);
      int low = code.code((i + 1 < count ? values[i + 1] : 0f) * inverse);
      packed[i / 2] = (byte) (high << 4 | low);
    }
  }

  /**
   * Unpacks elements.
   *
   * @param first index of the first element wanted, counted from the first of {@code packed}, which
   *     is the first of a block
   * @param scales of the blocks from there on
   */
  public static void unpack(
      FourBit code, byte[] packed, int blockSize, float[] scales, int first, float[] values) {
    float[] table = new float[FourBit.CODES];
    for (int i = 0; i < table.length; i++) {
      table[i] = code.value(i);
    }
    for (int i = 0; i < values.length; i++) {
      int at = first + i;
      int both = packed[at / 2];
      int half = (at % 2 == 0 ? both >> 4 : both) & 0xf;
      values[i] = table[half] * scales[at / blockSize];
    }
  }
}
