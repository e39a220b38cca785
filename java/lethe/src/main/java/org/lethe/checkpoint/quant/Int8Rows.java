package org.lethe.checkpoint.quant;

/**
 * Weights of LLM.int8() (Dettmers et al. 2022, arXiv:2208.07339): one fp32 scale a row, the row's
 * largest magnitude, and whole numbers in [-127, 127]. {@code kInt8VectorQuant} and {@code
 * int8_vectorwise_dequant} of bitsandbytes. What LLM.int8() does to activations is no part of the
 * weights and not done here.
 */
public final class Int8Rows {
  // 1/127 in fp32.
  private static final float STEP = 0.007874016f;

  private Int8Rows() {}

  /**
   * Quantises a row.
   *
   * @param values finite and exact in fp16, through which bitsandbytes passes them first; {@code
   *     columns} from {@code from} on
   * @param codes takes as many
   * @return the row's scale; 0 for a row of zeros
   */
  public static float pack(float[] values, int from, int columns, byte[] codes) {
    float largest = 0;
    for (int i = 0; i < columns; i++) {
      largest = Math.max(largest, Math.abs(values[from + i]));
    }
    float inverse = 127f / largest;
    for (int i = 0; i < columns; i++) {
      // NaN, of a row of zeros, becomes 0.
      codes[from + i] = (byte) (int) Math.rint((double) (values[from + i] * inverse));
    }
    return largest;
  }

  /** A weight again: two fp32 products, each rounded. */
  public static float value(byte code, float scale) {
    float product = code * scale;
    return product * STEP;
  }
}
