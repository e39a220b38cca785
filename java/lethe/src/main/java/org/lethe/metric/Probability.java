package org.lethe.metric;

import java.util.List;

/** How likely a model holds an answer, length-normalised (TOFU, arXiv 2401.06121). */
public final class Probability {
  private Probability() {}

  /**
   * p = exp(−nll).
   *
   * @param nll mean over the answer's tokens
   */
  public static double of(double nll) {
    return StrictMath.exp(-nll);
  }

  /**
   * The mean of the probabilities of several answers that are right alike.
   *
   * @param nlls mean over each answer's tokens, at least one
   */
  public static double ofSeveral(Averaging averaging, List<Double> nlls) {
    return averaging.mean(nlls.stream().mapToDouble(Probability::of).toArray());
  }

  /**
   * p / (p + Σ p_wrong), the answer's share among the answers of a multiple choice.
   *
   * @param answerNll mean over the answer's tokens
   * @param perturbedNll the same for each wrong answer
   */
  public static double normalised(double answerNll, List<Double> perturbedNll) {
    // Divided through by p, so that answers which are all very unlikely still have shares.
    double others = 0;
    for (double nll : perturbedNll) {
      others += StrictMath.exp(answerNll - nll);
    }
    return 1 / (1 + others);
  }

  /**
   * p / (p + Σ p_wrong + 1e-10), as open-unlearning has it: tends to 0 where all answers are very
   * unlikely.
   */
  public static double normalisedOpenUnlearning(double answer, List<Double> perturbed) {
    double others = 0;
    for (double p : perturbed) {
      others += p;
    }
    return answer / (answer + others + TruthRatio.OPEN_UNLEARNING_FLOOR);
  }
}
