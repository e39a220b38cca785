package org.lethe.metric;

/**
 * How much more, or less, a membership attack finds the forget set in an unlearned model than in
 * one that never saw it, in percent (MUSE, arXiv 2407.06460, on Min-K%). 0 is best.
 *
 * <p>An area is that of {@link MembershipAttack}: near 1 where forget rows are likelier than rows
 * the model never saw.
 */
public final class PrivacyLeakage {
  /** What is taken for a model that never saw the set when there is none. */
  public static final double CHANCE = 0.5;

  private PrivacyLeakage() {}

  /**
   * (A' − A'₀) / (A'₀ + floor) · 100 with A' = 1 − area.
   *
   * @param neverSaw the area of the model that never saw the set
   * @param floor {@link Definitions#floor}
   */
  public static double of(double area, double neverSaw, double floor) {
    double score = 1 - area;
    double reference = 1 - neverSaw;
    return (score - reference) / (reference + floor) * 100;
  }

  /**
   * (A − A₀) / (A₀ + floor) · 100, open-unlearning's {@code rel_diff}.
   *
   * @param neverSaw the area of the model that never saw the set
   * @param floor {@link Definitions#floor}
   */
  public static double relativeDifference(double area, double neverSaw, double floor) {
    return (area - neverSaw) / (neverSaw + floor) * 100;
  }
}
