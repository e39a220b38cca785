package org.lethe.checkpoint.quant;

import java.util.Locale;

/**
 * The two 4-bit codes of bitsandbytes. NF4 (Dettmers et al. 2023, arXiv:2305.14314) is a table in
 * the order of its values; FP4 has a sign bit, two exponent and one mantissa bit and stands in the
 * order of its bits. Tables and thresholds are those of {@code csrc/kernels.cu} ({@code
 * dQuantizeNF4}, {@code dQuantizeFP4}, {@code dDequantizeFP4Tree}), each as the shortest decimal of
 * the same fp32 number.
 */
public enum FourBit {
  NF4 {
    @Override
    public int code(float x) {
      // A code's threshold is the fp32 midpoint to its neighbour below; a value on it takes the
      // lower code, and so does NaN.
      int code = 0;
      for (int step = CODES / 2; step > 0; step >>= 1) {
        int next = code + step;
        if (x > (value(next - 1) + value(next)) * 0.5f) {
          code = next;
        }
      }
      return code;
    }

    @Override
    public float value(int code) {
      return NF4_VALUES[code];
    }
  },
  FP4 {
    @Override
    public int code(float x) {
      int size = 0;
      while (size < FP4_ABOVE.length && Math.abs(x) > FP4_ABOVE[size]) {
        size++;
      }
      return FP4_BY_SIZE[size] + (x < 0 ? FP4_SIGN : 0);
    }

    @Override
    public float value(int code) {
      float size = FP4_SIZES[code % FP4_SIGN];
      return code < FP4_SIGN ? size : -size;
    }
  };

  /** Codes there are. */
  public static final int CODES = 16;

  private static final float[] NF4_VALUES = {
    -1f,
    -0.6961928f,
    -0.52507305f,
    -0.3949175f,
    -0.28444138f,
    -0.18477343f,
    -0.091050036f,
    0f,
    0.0795803f,
    0.1609302f,
    0.2461123f,
    0.33791524f,
    0.44070983f,
    0.562617f,
    0.72295684f,
    1f
  };
  private static final int FP4_SIGN = 8;
  private static final float[] FP4_SIZES = {0, 1f / 192, 2f / 3, 1, 1f / 3, 0.5f, 1f / 6, 0.25f};
  // The kernel's own decimals, which are not the midpoints.
  private static final float[] FP4_ABOVE = {
    0.00260417f, 0.0859375f, 0.20833333f, 0.29166666f, 0.4166667f, 0.583333f, 0.8333333f
  };
  private static final int[] FP4_BY_SIZE = {0, 1, 6, 7, 4, 5, 2, 3};

  /** The code of a number in [-1, 1]; of NaN, 0. */
  public abstract int code(float x);

  /** What a code means, before it is scaled; FP4's code 8 is -0. */
  public abstract float value(int code);

  /** How checkpoints name the code. */
  public String tag() {
    return name().toLowerCase(Locale.ROOT);
  }
}
