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
    PValueMethod method =
        Math.max(x.length, y.length) <= EXACT_SIZE ? PValueMethod.EXACT : PValueMethod.ASYMPTOTIC;
    return KolmogorovSmirnovTest.withDefaults().with(method).test(x, y).getPValue();
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
