package org.lethe.metric;

import java.util.List;

/**
 * R = p_wrong / p_right, p_right = exp(−nll) of a right answer and p_wrong = exp(−mean nll) of the
 * wrong ones, each nll a mean over tokens. R &lt; 1 where the model still tells right from wrong.
 *
 * <p>The right answer is a rewording where there is one, else the answer itself. Sources: TOFU
 * (arXiv 2401.06121); the code of open-unlearning; that of "A Closer Look at Machine Unlearning for
 * Large Language Models" (arXiv 2410.08109), which writes its formulas with 1/R.
 */
public final class TruthRatio {
  /** What open-unlearning adds to divisors. */
  static final double OPEN_UNLEARNING_FLOOR = 1e-10;

  private TruthRatio() {}

  /**
   * R of one example.
   *
   * @param rightNll mean over the tokens of the right answer
   * @param wrongNll the same for each wrong answer, at least one
   */
  public static double of(double rightNll, List<Double> wrongNll) {
    return StrictMath.exp(rightNll - Means.of(wrongNll));
  }

  /** R of one example with 1e-10 added to p_right, as open-unlearning has it. */
  public static double openUnlearning(double rightNll, List<Double> wrongNll) {
    return StrictMath.exp(-Means.of(wrongNll))
        / (StrictMath.exp(-rightNll) + OPEN_UNLEARNING_FLOOR);
  }

  /**
   * The forget set's aggregate of open-unlearning, mean min(R, 1/(R + 1e-10)): near 1 where right
   * and wrong answers are equally likely, as for a model that never saw the set. Higher is better.
   *
   * @param ratios R per example
   */
  public static double forgetOpenUnlearning(double[] ratios) {
    double[] terms = new double[ratios.length];
    for (int i = 0; i < terms.length; i++) {
      terms[i] = Math.min(ratios[i], 1 / (ratios[i] + OPEN_UNLEARNING_FLOOR));
    }
    return Means.of(terms);
  }

  /**
   * The forget set's aggregate of closer-look, 1 − mean min(R, 1/R): near 0 where right and wrong
   * answers are equally likely. Lower is better; its forget efficacy takes 1 minus this.
   *
   * @param ratios R per example
   */
  public static double forgetCloserLook(double[] ratios) {
    double[] terms = new double[ratios.length];
    for (int i = 0; i < terms.length; i++) {
      terms[i] = Math.min(ratios[i], 1 / ratios[i]);
    }
    return 1 - Means.of(terms);
  }

  /**
   * The aggregate of every other set, mean max(0, 1 − R), the same in both. Higher is better.
   *
   * @param ratios R per example
   */
  public static double utility(double[] ratios) {
    double[] terms = new double[ratios.length];
    for (int i = 0; i < terms.length; i++) {
      terms[i] = Math.max(0, 1 - ratios[i]);
    }
    return Means.of(terms);
  }
}
