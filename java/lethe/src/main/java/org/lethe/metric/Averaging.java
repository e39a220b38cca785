package org.lethe.metric;

import org.lethe.method.ExactSum;

/**
 * How a mean is rounded. All three are the same mean; published tables print every digit of theirs,
 * and the last ones depend on the order of the additions.
 */
public enum Averaging {
  /** Summed without rounding, rounded once. */
  EXACT,

  /**
   * As NumPy's {@code mean} of doubles: blocks of up to 128 numbers on eight accumulators, blocks
   * added pairwise (numpy, {@code _core/src/umath/loops_utils.h.src}, pairwise sum).
   */
  NUMPY,

  /** As NumPy's {@code mean} of single precision numbers, in the same order. */
  NUMPY_SINGLE;

  private static final int BLOCK = 128;
  private static final int LANES = 8;

  /**
   * The sum.
   *
   * @param values for {@link #NUMPY_SINGLE} rounded to single precision first
   */
  public double sum(double[] values) {
    return switch (this) {
      case EXACT -> {
        ExactSum sum = new ExactSum();
        for (double value : values) {
          sum.add(value);
        }
        yield sum.value();
      }
      case NUMPY -> pairwise(values, 0, values.length);
      case NUMPY_SINGLE -> pairwiseSingle(values, 0, values.length);
    };
  }

  /**
   * The arithmetic mean.
   *
   * @throws org.lethe.UserException when there is nothing to average
   */
  public double mean(double[] values) {
    return switch (this) {
      case EXACT -> Means.of(values);
      case NUMPY -> {
        Means.requireSome(values.length);
        yield sum(values) / values.length;
      }
      case NUMPY_SINGLE -> {
        Means.requireSome(values.length);
        yield (float) sum(values) / (float) values.length;
      }
    };
  }

  private static double pairwise(double[] values, int from, int count) {
    if (count < LANES) {
      double sum = 0;
      for (int i = 0; i < count; i++) {
        sum += values[from + i];
      }
      return sum;
    }
    if (count > BLOCK) {
      int left = half(count);
      return pairwise(values, from, left) + pairwise(values, from + left, count - left);
    }
    double[] lanes = new double[LANES];
    int whole = count - count % LANES;
    for (int i = 0; i < whole; i++) {
      lanes[i % LANES] += values[from + i];
    }
    double sum =
        ((lanes[0] + lanes[1]) + (lanes[2] + lanes[3]))
            + ((lanes[4] + lanes[5]) + (lanes[6] + lanes[7]));
    for (int i = whole; i < count; i++) {
      sum += values[from + i];
    }
    return sum;
  }

  private static float pairwiseSingle(double[] values, int from, int count) {
    if (count < LANES) {
      float sum = 0;
      for (int i = 0; i < count; i++) {
        sum += (float) values[from + i];
      }
      return sum;
    }
    if (count > BLOCK) {
      int left = half(count);
      return pairwiseSingle(values, from, left) + pairwiseSingle(values, from + left, count - left);
    }
    float[] lanes = new float[LANES];
    int whole = count - count % LANES;
    for (int i = 0; i < whole; i++) {
      lanes[i % LANES] += (float) values[from + i];
    }
    float sum =
        ((lanes[0] + lanes[1]) + (lanes[2] + lanes[3]))
            + ((lanes[4] + lanes[5]) + (lanes[6] + lanes[7]));
    for (int i = whole; i < count; i++) {
      sum += (float) values[from + i];
    }
    return sum;
  }

  private static int half(int count) {
    int half = count / 2;
    return half - half % LANES;
  }
}
