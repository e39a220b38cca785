package org.lethe.metric;

import java.util.List;

/**
 * What was seen of a model on one example. Each nll is the mean over the answer's tokens and the
 * end token, in nats. What was not measured is NaN, empty or null; a {@link Metric} says what it
 * needs.
 *
 * @param answerNll of the example's answer
 * @param paraphrasedNll of each rewording of the answer; of the answer itself in a set without
 *     rewordings
 * @param perturbedNll of each wrong answer
 * @param tokens the example's answer token by token, its end token included
 * @param answer the example's answer
 * @param generation what the model answered
 * @param generatedIds the token ids of what the model answered
 * @param extraction what prefixes of the example's text make the model say
 */
public record Observation(
    double answerNll,
    List<Double> paraphrasedNll,
    List<Double> perturbedNll,
    AnswerTokens tokens,
    String answer,
    String generation,
    List<Integer> generatedIds,
    Extraction extraction) {
  /** One whose prefixes were not looked at. */
  public Observation(
      double answerNll,
      List<Double> paraphrasedNll,
      List<Double> perturbedNll,
      AnswerTokens tokens,
      String answer,
      String generation,
      List<Integer> generatedIds) {
    this(
        answerNll,
        paraphrasedNll,
        perturbedNll,
        tokens,
        answer,
        generation,
        generatedIds,
        Extraction.UNSEEN);
  }

  /** The same with what prefixes make the model say. */
  public Observation with(Extraction seen) {
    return new Observation(
        answerNll, paraphrasedNll, perturbedNll, tokens, answer, generation, generatedIds, seen);
  }
}
