package org.lethe.metric;

/**
 * How alike an unlearned model and one that never saw the forget set are on that set: the p-value
 * of a Kolmogorov–Smirnov test between their truth ratios (TOFU, arXiv 2401.06121). 1 is best;
 * below 0.05 the two are told apart.
 */
public final class ForgetQuality {
  private ForgetQuality() {}

  /**
   * The p-value.
   *
   * @param unlearned {@link TruthRatio} R per forget example, not aggregated
   * @param neverSaw the same of the model trained without the forget set
   */
  public static double of(double[] unlearned, double[] neverSaw) {
    return KolmogorovSmirnov.pValue(unlearned, neverSaw);
  }
}
