package org.lethe.metric;

import org.lethe.method.ExactSum;

/**
 * The harmonic mean of the scores of the sets to be kept (TOFU, arXiv 2401.06121: probability,
 * ROUGE-L recall and truth ratio of three sets).
 */
public final class ModelUtility {
  private ModelUtility() {}

  /**
   * n / Σ 1/score; 0 as soon as one score is 0, NaN when one is negative or NaN.
   *
   * @param scores at least one
   */
  public static double of(double... scores) {
    Means.requireSome(scores.length);
    ExactSum sum = new ExactSum();
    for (double score : scores) {
      sum.add(score >= 0 ? 1 / Math.abs(score) : Double.NaN);
    }
    return 1 / sum.mean(scores.length);
  }
}
