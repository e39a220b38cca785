package org.lethe.metric;

import java.util.List;
import java.util.Set;
import java.util.function.Predicate;
import java.util.function.ToDoubleFunction;

/**
 * A score per example, and its mean over a set. Adding one is one line in {@link #list}.
 *
 * @param name as it stands in tables
 * @param needs the parts of an observation that it reads
 * @param score of one example
 */
public record Metric(String name, Set<Need> needs, ToDoubleFunction<Observation> score) {
  /** What has to be measured for a metric. */
  public enum Need {
    ANSWER_NLL,
    PARAPHRASED_NLL,
    PERTURBED_NLL,
    GENERATION
  }

  /**
   * All metrics of one set of examples. Those over several sets or models are {@link ModelUtility}
   * and {@link ForgetQuality}.
   *
   * @param isRefusal whether a generated text is a refusal
   */
  public static List<Metric> list(Predicate<String> isRefusal) {
    return List.of(
        new Metric("probability", Set.of(Need.ANSWER_NLL), o -> Probability.of(o.answerNll())),
        new Metric(
            "probability_normalised",
            Set.of(Need.ANSWER_NLL, Need.PERTURBED_NLL),
            o -> Probability.normalised(o.answerNll(), o.perturbedNll())),
        new Metric(
            "rouge_l_recall",
            Set.of(Need.GENERATION),
            o -> RougeL.score(o.answer(), o.generation()).recall()),
        new Metric(
            "rouge_l_f1",
            Set.of(Need.GENERATION),
            o -> RougeL.score(o.answer(), o.generation()).f1()),
        new Metric(
            "truth_ratio",
            Set.of(Need.PARAPHRASED_NLL, Need.PERTURBED_NLL),
            o -> TruthRatio.of(o.paraphrasedNll(), o.perturbedNll())),
        new Metric(
            "token_entropy",
            Set.of(Need.GENERATION),
            o -> TokenEntropy.of(o.generatedIds().stream().mapToInt(Integer::intValue).toArray())),
        new Metric(
            "refusal_rate", Set.of(Need.GENERATION), o -> isRefusal.test(o.generation()) ? 1 : 0));
  }

  /** The score of each example, in order. */
  public double[] scores(List<Observation> observations) {
    return observations.stream().mapToDouble(score).toArray();
  }

  /**
   * The mean score.
   *
   * @throws org.lethe.UserException when there is no example
   */
  public double mean(List<Observation> observations) {
    return Means.of(scores(observations));
  }
}
