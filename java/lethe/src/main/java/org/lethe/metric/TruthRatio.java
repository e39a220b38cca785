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
   * @param rightNll mean over the tokens of each right answer, at least one
   * @param wrongNll the same for each wrong answer, at least one
   */
  public static double of(Definitions definitions, List<Double> rightNll, List<Double> wrongNll) {
    double right = mean(definitions, rightNll);
    double wrong = mean(definitions, wrongNll);
    // One exponential where nothing is added: answers that are all very unlikely keep a ratio.
    return definitions.floor() == 0
        ? StrictMath.exp(right - wrong)
        : StrictMath.exp(-wrong) / (StrictMath.exp(-right) + definitions.floor());
  }

  /**
   * p_right / (p_right + p_wrong) of one example, the form of the truth ratio that
   * open-unlearning's paper (arXiv 2506.12618) evaluates with. ½ where right and wrong are equally
   * likely.
   */
  public static double share(
      Definitions definitions, List<Double> rightNll, List<Double> wrongNll) {
    double right = mean(definitions, rightNll);
    double wrong = mean(definitions, wrongNll);
    if (definitions.floor() == 0) {
      return 1 / (1 + StrictMath.exp(right - wrong));
    }
    double p = StrictMath.exp(-right);
    return p / (p + StrictMath.exp(-wrong) + definitions.floor());
  }

  /**
   * The forget set's aggregate, mean min(R, 1/(R + floor)): near 1 where right and wrong answers
   * are equally likely, as for a model that never saw the set. Higher is better.
   *
   * @param ratios R per example
   */
  public static double forget(Averaging averaging, double[] ratios, double floor) {
    double[] terms = new double[ratios.length];
    for (int i = 0; i < terms.length; i++) {
      terms[i] = Math.min(ratios[i], 1 / (ratios[i] + floor));
    }
    return averaging.mean(terms);
  }

  /**
   * The forget set's aggregate of closer-look, 1 − mean min(R, 1/R): near 0 where right and wrong
   * answers are equally likely. Lower is better; its forget efficacy takes 1 minus this.
   *
   * @param ratios R per example
   */
  public static double forgetCloserLook(Averaging averaging, double[] ratios) {
    return 1 - forget(averaging, ratios, 0);
  }

  /**
   * The aggregate of every other set, mean max(0, 1 − R), the same in both. Higher is better.
   *
   * @param ratios R per example
   */
  public static double utility(Averaging averaging, double[] ratios) {
    double[] terms = new double[ratios.length];
    for (int i = 0; i < terms.length; i++) {
      terms[i] = Math.max(0, 1 - ratios[i]);
    }
    return averaging.mean(terms);
  }

  private static double mean(Definitions definitions, List<Double> nlls) {
    return definitions.averaging().mean(nlls.stream().mapToDouble(Double::doubleValue).toArray());
  }
}
