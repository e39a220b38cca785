package org.lethe.model.quant;

/**
 * Scales quantised in their turn ("double quantisation", {@code quantize_4bit} with {@code
 * compress_statistics}): their mean is taken off, the rest is cut into blocks of 256 and coded by
 * {@link DynamicMap}.
 *
 * @param offset the mean, summed in fp64 and rounded once; torch's own sum may differ in the last
 *     bits, by device
 * @param codes one per scale
 * @param scales of the blocks of scales
 */
public record NestedScales(float offset, byte[] codes, float[] scales) {
  /** Scales in a block. */
  public static final int BLOCK_SIZE = 256;

  /** Quantises scales. */
  public static NestedScales of(float[] scales) {
    float offset = offset(scales);
    float[] map = DynamicMap.values();
    float[] largest = new float[(scales.length + BLOCK_SIZE - 1) / BLOCK_SIZE];
    float[] rest = new float[scales.length];
    for (int i = 0; i < scales.length; i++) {
      rest[i] = scales[i] - offset;
      largest[i / BLOCK_SIZE] = Math.max(largest[i / BLOCK_SIZE], Math.abs(rest[i]));
    }
    byte[] codes = new byte[scales.length];
    for (int i = 0; i < scales.length; i++) {
      codes[i] = (byte) DynamicMap.code(map, rest[i] * (1f / largest[i / BLOCK_SIZE]));
    }
    return new NestedScales(offset, codes, largest);
  }

  private static float offset(float[] scales) {
    double sum = 0;
    for (float scale : scales) {
      sum += scale;
    }
    return (float) (sum / scales.length);
  }

  /** A scale again: one fp32 product and one fp32 sum, each rounded. */
  public static float scale(float[] map, byte code, float blockScale, float offset) {
    float product = map[code & 0xff] * blockScale;
    return product + offset;
  }
}
