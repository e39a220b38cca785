package org.lethe.metric;

import org.apache.commons.statistics.inference.KolmogorovSmirnovTest;
import org.apache.commons.statistics.inference.PValueMethod;
import org.lethe.UserException;

/** The two-sample, two-sided Kolmogorov–Smirnov test. */
public final class KolmogorovSmirnov {
  /** Beyond it the exact p-value takes too long; the same bound as SciPy's. */
  private static final int EXACT_SIZE = 10_000;

  private KolmogorovSmirnov() {}

  /**
   * The p-value of the hypothesis that both samples come from one distribution: exact for samples
   * of up to 10 000, asymptotic beyond.
   *
   * @throws UserException when a sample has fewer than two values, or one that is not a number
   */
  public static double pValue(double[] x, double[] y) {
    check(x);
    check(y);
    if (x.length == y.length && x.length <= EXACT_SIZE) {
      double distance = KolmogorovSmirnovTest.withDefaults().statistic(x, y);
      return equal(x.length, Math.toIntExact(Math.round(distance * x.length)));
    }
    PValueMethod method =
        Math.max(x.length, y.length) <= EXACT_SIZE ? PValueMethod.EXACT : PValueMethod.ASYMPTOTIC;
    return KolmogorovSmirnovTest.withDefaults().with(method).test(x, y).getPValue();
  }

  /**
   * The exact p-value for two samples of n values whose distributions are h/n apart or more: the
   * share of paths from corner to corner of a square that leave a band of half-width h around its
   * diagonal (Gnedenko and Korolyuk, 1951), 2·Σ (−1)^(k+1)·C(2n, n − kh) / C(2n, n) over k ≥ 1.
   *
   * <p>Nested as 2·a₀(1 − a₁(1 − …)), a product of h quotients each, in the order in which SciPy
   * ({@code stats/_stats_py.py}) multiplies: its last digits come out, too.
   */
  static double equal(int n, int h) {
    if (h == 0) {
      return 1;
    }
    double p = 0;
    for (int k = n / h; k >= 0; k--) {
      double quotients = 1;
      for (int j = 0; j < h; j++) {
        quotients = (n - k * h - j) * quotients / (n + k * h + j + 1);
      }
      p = quotients * (1 - p);
    }
    return 2 * p;
  }

  private static void check(double[] sample) {
    if (sample.length < 2) {
      throw new UserException(
          "A Kolmogorov-Smirnov test of a sample of "
              + sample.length
              + " values; give at least two examples");
    }
    for (double value : sample) {
      if (Double.isNaN(value)) {
        throw new UserException(
            "A Kolmogorov-Smirnov test of a sample with a NaN; check the model's outputs");
      }
    }
  }
}
