package org.lethe.metric;

import java.util.Arrays;
import org.lethe.UserException;

/**
 * Min-K%: how unlikely a text's least likely tokens are. Low for a text that was trained on.
 * Sources: Shi et al., "Detecting Pretraining Data from Large Language Models" (arXiv 2310.16789);
 * Zhang et al., "Min-K%++" (arXiv 2404.02936).
 */
public final class MinK {
  /** The least variance that is divided by, as in open-unlearning and Min-K%++'s own code. */
  private static final double LEAST_VARIANCE = 1e-6;

  private MinK() {}

  /**
   * −mean of the lowest ⌊share·n⌋ of n log-probabilities, at least one of them; 0 for none.
   *
   * @param share in (0, 1]
   */
  public static double of(double[] logProbabilities, double share) {
    if (!(share > 0 && share <= 1)) {
      throw new UserException(
          "min_k " + share + " is no share of tokens; give one in (0, 1], such as 0.4");
    }
    if (logProbabilities.length == 0) {
      return 0;
    }
    double[] sorted = logProbabilities.clone();
    Arrays.sort(sorted);
    int count = Math.max(1, (int) (sorted.length * share));
    return -Means.of(Arrays.copyOf(sorted, count));
  }

  /**
   * Min-K%++: the same of (log p(x) − E_p[log p]) / √(Var_p[log p]), so that a token is compared
   * with what else could have stood there.
   */
  public static double plusPlus(AnswerTokens tokens, double share) {
    double[] scores = new double[tokens.count()];
    for (int i = 0; i < scores.length; i++) {
      double deviation = tokens.logProbabilities()[i] - tokens.means()[i];
      scores[i] = deviation / Math.sqrt(Math.max(tokens.variances()[i], LEAST_VARIANCE));
    }
    return of(scores, share);
  }
}
