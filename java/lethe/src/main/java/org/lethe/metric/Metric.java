package org.lethe.metric;

import java.util.Arrays;
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
    ANSWER_TOKENS,
    GENERATION,
    EXTRACTION
  }

  private static final Set<Need> ANSWER = Set.of(Need.ANSWER_NLL);
  private static final Set<Need> ANSWER_PERTURBED = Set.of(Need.ANSWER_NLL, Need.PERTURBED_NLL);
  private static final Set<Need> RIGHT_WRONG = Set.of(Need.PARAPHRASED_NLL, Need.PERTURBED_NLL);
  private static final Set<Need> TOKENS = Set.of(Need.ANSWER_TOKENS);
  private static final Set<Need> SAID = Set.of(Need.GENERATION);
  private static final Set<Need> PREFIXES = Set.of(Need.EXTRACTION);

  /**
   * All metrics of one set of examples: {@code truth_ratio_forget} is for the set to be forgotten,
   * {@code truth_ratio} for every other. Those over several sets or models are {@link
   * ModelUtility}, {@link MembershipAttack}, {@link PrivacyLeakage} and {@link ForgetQuality}.
   *
   * @param isRefusal whether a generated text is a refusal
   */
  public static List<Metric> list(Definitions d, Predicate<String> isRefusal) {
    ToDoubleFunction<double[]> mean = d.averaging()::mean;
    return List.of(
        new Metric("probability", ANSWER, o -> Probability.of(o.answerNll()), mean),
        new Metric("probability_normalised", ANSWER_PERTURBED, o -> normalised(d, o), mean),
        new Metric("rouge_1_recall", SAID, o -> rouge1(o).recall(), mean),
        new Metric("rouge_l_recall", SAID, o -> rougeL(o).recall(), mean),
        new Metric("rouge_l_f1", SAID, o -> rougeL(o).f1(), mean),
        new Metric(
            "truth_ratio", RIGHT_WRONG, d::truthRatio, r -> TruthRatio.utility(d.averaging(), r)),
        new Metric("truth_ratio_forget", RIGHT_WRONG, d::truthRatio, d::forgetTruthRatio),
        new Metric(
            "truth_share",
            RIGHT_WRONG,
            o -> TruthRatio.share(d, o.paraphrasedNll(), o.perturbedNll()),
            mean),
        new Metric("extraction_strength", TOKENS, o -> d.extractionStrength(o.tokens()), mean),
        new Metric(
            "exact_memorization",
            TOKENS,
            o -> ExactMemorization.of(d.tokens(o.tokens()).hits()),
            mean),
        extraction("memorization_accuracy", Extraction::accuracy, mean),
        extraction("extraction_likelihood", Extraction::likelihood, mean),
        extraction("sensitive_memorization_accuracy", Extraction::sensitiveAccuracy, mean),
        extraction("sensitive_extraction_likelihood", Extraction::sensitiveLikelihood, mean),
        new Metric(
            "token_entropy",
            SAID,
            o -> TokenEntropy.of(o.generatedIds().stream().mapToInt(Integer::intValue).toArray()),
            mean),
        new Metric("refusal_rate", SAID, o -> isRefusal.test(o.generation()) ? 1 : 0, mean));
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

  /** A set's is the mean over the rows that have one: a short text may have no n-gram. */
  private static Metric extraction(
      String name, ToDoubleFunction<Extraction> part, ToDoubleFunction<double[]> mean) {
    return new Metric(
        name,
        PREFIXES,
        o -> part.applyAsDouble(o.extraction()),
        scores -> {
          double[] known = Arrays.stream(scores).filter(s -> !Double.isNaN(s)).toArray();
          return scores.length > 0 && known.length == 0 ? Double.NaN : mean.applyAsDouble(known);
        });
  }

  private static double normalised(Definitions d, Observation o) {
    return d.floor() == 0
        ? Probability.normalised(o.answerNll(), o.perturbedNll())
        : Probability.normalisedOpenUnlearning(
            Probability.of(o.answerNll()), o.perturbedNll().stream().map(Probability::of).toList());
  }

  private static RougeL.Score rouge1(Observation o) {
    return Rouge1.score(o.answer(), o.generation());
  }

  private static RougeL.Score rougeL(Observation o) {
    return RougeL.score(o.answer(), o.generation());
  }
}
