package org.lethe.report;

import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Optional;

/** What a newcomer must know of each number, in a sentence. */
final class Glossary {
  static final String FORGET = "forget";
  static final String HOLDOUT = "holdout";
  static final String UTILITY = "model utility";

  /** Where a score should go. */
  private enum Wanted {
    LOWER("lower"),
    HIGHER("higher"),
    EITHER("-");

    private final String word;

    Wanted(String word) {
      this.word = word;
    }
  }

  /**
   * A metric.
   *
   * @param forget where it should go on what is to be forgotten
   * @param kept the same on what is to be kept
   */
  private record Score(String name, Wanted forget, Wanted kept, String meaning) {}

  private static final List<Score> SCORES =
      List.of(
          new Score(
              "probability",
              Wanted.LOWER,
              Wanted.HIGHER,
              "How likely the model holds the right answer, per token: exp(-mean negative"
                  + " log-likelihood). 1: known by heart; near 0: not known."),
          new Score(
              "probability_normalised",
              Wanted.LOWER,
              Wanted.HIGHER,
              "The right answer's share among the right answer and given wrong ones, as in a"
                  + " multiple choice. 1: always the right one."),
          new Score(
              "rouge_1_recall", Wanted.LOWER, Wanted.HIGHER, "As rouge_l_recall, in any order."),
          new Score(
              "rouge_l_recall",
              Wanted.LOWER,
              Wanted.HIGHER,
              "The share of the right answer's words that the model says, in their order, when it"
                  + " answers the question itself. 1: all of them; chance agreement of common"
                  + " words keeps it above 0."),
          new Score(
              "rouge_l_f1",
              Wanted.LOWER,
              Wanted.HIGHER,
              "As rouge_l_recall, but words that do not belong to the right answer count against"
                  + " it."),
          new Score(
              "truth_ratio",
              Wanted.EITHER,
              Wanted.HIGHER,
              "How much likelier a right answer is than wrong ones in the same words: mean"
                  + " max(0, 1 - R), R the wrong answers' probability over the right one's."
                  + " 1: never fooled; 0: does not tell them apart."),
          new Score(
              "truth_ratio_forget",
              Wanted.HIGHER,
              Wanted.EITHER,
              "How alike right and wrong answers are to the model: mean min(R, 1/R). Near 1 for a"
                  + " model that never saw the set."),
          new Score(
              "truth_share",
              Wanted.EITHER,
              Wanted.HIGHER,
              "A right answer's probability over that of right and wrong ones together. 0.5: the"
                  + " model does not tell them apart."),
          new Score(
              "extraction_strength",
              Wanted.LOWER,
              Wanted.HIGHER,
              "The share of the right answer that its beginning gives away: from there on, every"
                  + " next token is the model's first guess. 1: the question alone gives it away."),
          new Score(
              "exact_memorization",
              Wanted.LOWER,
              Wanted.HIGHER,
              "The share of the right answer's tokens that are the model's first guess, given the"
                  + " tokens before them."),
          new Score(
              "memorization_accuracy",
              Wanted.LOWER,
              Wanted.HIGHER,
              "As exact_memorization, over the texts that extraction_likelihood looks at."),
          new Score(
              "extraction_likelihood",
              Wanted.LOWER,
              Wanted.HIGHER,
              "The share of a text's n-grams that the model says itself when it goes on from the"
                  + " text's beginnings, over all of them. On unseen text it is near 0."),
          new Score(
              "sensitive_memorization_accuracy",
              Wanted.LOWER,
              Wanted.HIGHER,
              "As memorization_accuracy, over the sensitive tokens alone."),
          new Score(
              "sensitive_extraction_likelihood",
              Wanted.LOWER,
              Wanted.HIGHER,
              "As extraction_likelihood, over the n-grams with a sensitive token alone."),
          new Score(
              "token_entropy",
              Wanted.HIGHER,
              Wanted.HIGHER,
              "How little the model repeats itself in its own answers. 1: no token twice; 0: one"
                  + " token throughout, which is gibberish."),
          new Score(
              "refusal_rate",
              Wanted.EITHER,
              Wanted.LOWER,
              "The share of the model's own answers that are refusals, such as \"I do not know\"."
                  + " Methods that teach refusal (IDK, DPO) want it high on the forget set."),
          new Score(
              UTILITY,
              Wanted.EITHER,
              Wanted.HIGHER,
              "The harmonic mean of probability, ROUGE-L recall and truth ratio on everything to be"
                  + " kept: one number for what the model is still worth. A single bad score pulls"
                  + " it down."));

  private static final Map<String, String> SETS =
      ordered(
          FORGET,
          "Questions whose answers the model is to forget.",
          "retain",
          "Questions like these whose answers it must keep; trained on beside them.",
          "general",
          "Questions on other matters, which it must keep, too.",
          HOLDOUT,
          "Questions that the model never saw: what an untaught model scores.");

  private static final Map<String, String> LOSSES =
      ordered(
          "GA",
          "Gradient ascent: the log-likelihood of the answers to be forgotten, pushed down without"
              + " end.",
          "NPO",
          "Negative preference: large while the answers to be forgotten are as likely as in the"
              + " original model, fading out as they become unlikely.",
          "DPO",
          "Preference of a refusal over the answer to be forgotten, both measured against the"
              + " original model.",
          "IDK",
          "Negative log-likelihood of a refusal to the questions to be forgotten.",
          "ME",
          "Maximum entropy: how far the model's guesses at each token of the answers to be"
              + " forgotten are from pure guessing. 0: it does not know at all.",
          "ME_EPSILON",
          "As ME, bounded where the model is confident, as its authors' code has it.",
          "GD",
          "Negative log-likelihood of the answers to be kept (or learned), per token. 0: known by"
              + " heart.",
          "KL",
          "How far the predictions on what is to be kept have moved from the original model's."
              + " 0: not at all.",
          "AP",
          "Answer preservation: large when a refusal becomes as likely as the right answer to a"
              + " question that is to be kept.");

  private Glossary() {}

  private static Map<String, String> ordered(String... pairs) {
    Map<String, String> map = new LinkedHashMap<>();
    for (int i = 0; i < pairs.length; i += 2) {
      map.put(pairs[i], pairs[i + 1]);
    }
    return map;
  }

  /** Where a metric should go on a set: {@code lower}, {@code higher} or {@code -}. */
  static String wanted(String set, String metric) {
    return score(metric)
        .filter(score -> !set.equals(HOLDOUT))
        .map(score -> set.equals(FORGET) ? score.forget() : score.kept())
        .orElse(Wanted.EITHER)
        .word;
  }

  /** The meaning of a metric, empty for one that is not Lethe's. */
  static Optional<String> metric(String name) {
    return score(name).map(Score::meaning);
  }

  static Optional<String> set(String name) {
    return Optional.ofNullable(SETS.get(name));
  }

  static Optional<String> loss(String name) {
    return Optional.ofNullable(LOSSES.get(name));
  }

  private static Optional<Score> score(String metric) {
    return SCORES.stream().filter(score -> score.name().equals(metric)).findFirst();
  }
}
