package org.lethe.method;

import java.math.BigDecimal;
import java.math.MathContext;
import java.util.Arrays;

/**
 * A sum of doubles without rounding error: order and grouping of the terms do not change it.
 *
 * <p>That makes the loss of a step the same bits however the step is cut into micro-batches, and
 * the mean of n equal values that value exactly, for every n. The sum is kept as an expansion of
 * non-overlapping doubles (Shewchuk, "Adaptive Precision Floating-Point Arithmetic", 1997).
 *
 * <p>A term that is not finite makes the result what plain addition of such terms gives: an
 * infinity, or NaN. One thread at a time.
 */
public final class ExactSum {
  /** Digits of a quotient: far more than the 17 that decide which double it is. */
  private static final MathContext QUOTIENT = new MathContext(60);

  private double[] parts = new double[4];
  private int used;
  private double notFinite;
  private long count;

  /** Adds a term. */
  public void add(double term) {
    count++;
    if (!Double.isFinite(term)) {
      notFinite += term;
      return;
    }
    double sum = term;
    int kept = 0;
    for (int i = 0; i < used; i++) {
      double part = parts[i];
      double high = sum + part;
      double taken = high - sum;
      double low = (sum - (high - taken)) + (part - taken);
      if (low != 0) {
        parts[kept++] = low;
      }
      sum = high;
    }
    if (!Double.isFinite(sum)) {
      notFinite += sum;
      used = 0;
      return;
    }
    if (kept == parts.length) {
      parts = Arrays.copyOf(parts, 2 * kept);
    }
    parts[kept++] = sum;
    used = kept;
  }

  /** How many terms were added. */
  public long count() {
    return count;
  }

  /** The double nearest to the sum; 0 without terms. */
  public double value() {
    return notFinite() ? notFinite : exact().doubleValue();
  }

  /**
   * The sum over {@code n}; exact when that is a double.
   *
   * @param n at least 1
   */
  public double mean(long n) {
    return notFinite()
        ? notFinite / n
        : exact().divide(BigDecimal.valueOf(n), QUOTIENT).doubleValue();
  }

  private boolean notFinite() {
    return notFinite != 0;
  }

  private BigDecimal exact() {
    BigDecimal sum = BigDecimal.ZERO;
    for (int i = 0; i < used; i++) {
      sum = sum.add(new BigDecimal(parts[i]));
    }
    return sum;
  }
}
