package org.lethe.metric;

/**
 * The harmonic mean of the scores of the sets to be kept (TOFU, arXiv 2401.06121: probability,
 * ROUGE-L recall and truth ratio of three sets; arXiv 2410.08109 adds token entropy, cosine
 * similarity and entailment: 18 values).
 */
public final class ModelUtility {
  private ModelUtility() {}

  /**
   * n / Σ 1/score; 0 as soon as one score is 0, NaN when one is negative or NaN.
   *
   * @param scores at least one
   */
  public static double of(double... scores) {
    return of(Averaging.EXACT, scores);
  }

  /** The same, with the sum rounded as told. */
  public static double of(Averaging averaging, double... scores) {
    Means.requireSome(scores.length);
    double[] inverses = new double[scores.length];
    for (int i = 0; i < scores.length; i++) {
      inverses[i] = scores[i] >= 0 ? 1 / Math.abs(scores[i]) : Double.NaN;
    }
    return averaging == Averaging.EXACT
        ? 1 / averaging.mean(inverses)
        : scores.length / averaging.sum(inverses);
  }
}
