package org.lethe.metric;

import java.util.List;
import java.util.function.ToDoubleFunction;

/**
 * A guess at whether a model was trained on an example, from what it says of it. Adding one is one
 * line in {@link #list}.
 *
 * <p>The gradient-norm attack needs a backward pass per example and is not offered; the comparison
 * with a second model is {@link #reference}.
 *
 * @param name as it stands in tables
 * @param score of one example, lower for one that was trained on
 */
public record MembershipAttack(String name, ToDoubleFunction<Observation> score) {
  /** The attack that {@link PrivacyLeakage} is defined on. */
  public static final String MIN_K = "min_k";

  /** The name of {@link #reference}. */
  public static final String REFERENCE = "reference";

  /**
   * All attacks on one model. Likelihoods include the end token, Min-K% looks at the answer's own
   * tokens.
   *
   * @param share of tokens that Min-K% looks at, in (0, 1]
   */
  public static List<MembershipAttack> list(Definitions definitions, double share) {
    return List.of(
        new MembershipAttack("loss", Observation::answerNll),
        new MembershipAttack("zlib", o -> o.answerNll() / CompressedLength.of(o.answer())),
        new MembershipAttack(
            MIN_K, o -> MinK.of(definitions.tokens(o.tokens()).logProbabilities(), share)),
        new MembershipAttack(
            "min_k_plus_plus", o -> MinK.plusPlus(definitions.tokens(o.tokens()), share)));
  }

  /** Difference of the nll to another model's, per example. */
  public static double[] reference(double[] nll, double[] otherNll) {
    double[] scores = new double[nll.length];
    for (int i = 0; i < scores.length; i++) {
      scores[i] = nll[i] - otherNll[i];
    }
    return scores;
  }

  /**
   * How well an attack tells forget rows from rows the model never saw: the area under its curve.
   * 0.5: not at all; 1: every forget row looks trained on; below 0.5 they look less trained on than
   * rows never seen.
   */
  public static double area(Definitions definitions, double[] forget, double[] neverSeen) {
    return RocArea.of(definitions.averaging(), forget, neverSeen);
  }
}
