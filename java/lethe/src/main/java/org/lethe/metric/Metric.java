package org.lethe.metric;

import java.util.List;
import java.util.Set;
import java.util.function.Predicate;
import java.util.function.ToDoubleFunction;

/**
 * A score per example, and what a set of scores comes to. Adding one is one line in {@link #list}.
 *
 * @param name as it stands in tables
 * @param needs the parts of an observation that it reads
 * @param score of one example
 * @param aggregate of a set's scores, at least one
 */
public record Metric(
    String name,
    Set<Need> needs,
    ToDoubleFunction<Observation> score,
    ToDoubleFunction<double[]> aggregate) {
  /** What has to be measured for a metric. */
  public enum Need {
    ANSWER_NLL,
    PARAPHRASED_NLL,
    PERTURBED_NLL,
    GENERATION
  }

  /**
   * All metrics of one set of examples: {@code truth_ratio_forget} is for the set to be forgotten,
   * {@code truth_ratio} for every other. Those over several sets or models are {@link ModelUtility}
   * and {@link ForgetQuality}.
   *
   * @param isRefusal whether a generated text is a refusal
   */
  public static List<Metric> list(Predicate<String> isRefusal) {
    return List.of(
        mean("probability", Set.of(Need.ANSWER_NLL), o -> Probability.of(o.answerNll())),
        mean(
            "probability_normalised",
            Set.of(Need.ANSWER_NLL, Need.PERTURBED_NLL),
            o -> Probability.normalised(o.answerNll(), o.perturbedNll())),
        mean(
            "rouge_l_recall",
            Set.of(Need.GENERATION),
            o -> RougeL.score(o.answer(), o.generation()).recall()),
        mean(
            "rouge_l_f1",
            Set.of(Need.GENERATION),
            o -> RougeL.score(o.answer(), o.generation()).f1()),
        new Metric(
            "truth_ratio",
            Set.of(Need.PARAPHRASED_NLL, Need.PERTURBED_NLL),
            o -> TruthRatio.of(o.paraphrasedNll(), o.perturbedNll()),
            TruthRatio::utility),
        new Metric(
            "truth_ratio_forget",
            Set.of(Need.PARAPHRASED_NLL, Need.PERTURBED_NLL),
            o -> TruthRatio.of(o.paraphrasedNll(), o.perturbedNll()),
            TruthRatio::forgetOpenUnlearning),
        mean(
            "token_entropy",
            Set.of(Need.GENERATION),
            o -> TokenEntropy.of(o.generatedIds().stream().mapToInt(Integer::intValue).toArray())),
        mean("refusal_rate", Set.of(Need.GENERATION), o -> isRefusal.test(o.generation()) ? 1 : 0));
  }

  /** The score of each example, in order. */
  public double[] scores(List<Observation> observations) {
    return observations.stream().mapToDouble(score).toArray();
  }

  /**
   * The scores' aggregate.
   *
   * @throws org.lethe.UserException when there is no example
   */
  public double of(List<Observation> observations) {
    return aggregate.applyAsDouble(scores(observations));
  }

  private static Metric mean(String name, Set<Need> needs, ToDoubleFunction<Observation> score) {
    return new Metric(name, needs, score, Means::of);
  }
}
