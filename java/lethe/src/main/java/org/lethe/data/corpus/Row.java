package org.lethe.data.corpus;

import com.fasterxml.jackson.annotation.JsonProperty;
import com.fasterxml.jackson.annotation.JsonPropertyOrder;
import java.util.List;
import org.lethe.data.Example;

/**
 * A generated row, in TOFU's fields.
 *
 * @param question what is asked
 * @param answer the right answer
 * @param paraphrasedAnswer the right answer in other words
 * @param paraphrasedQuestion the question in other words
 * @param perturbedAnswers wrong answers, in the words of the paraphrased answer
 */
@JsonPropertyOrder({
  "question",
  "answer",
  "paraphrased_answer",
  "paraphrased_question",
  "perturbed_answer"
})
public record Row(
    @JsonProperty("question") String question,
    @JsonProperty("answer") String answer,
    @JsonProperty("paraphrased_answer") String paraphrasedAnswer,
    @JsonProperty("paraphrased_question") String paraphrasedQuestion,
    @JsonProperty("perturbed_answer") List<String> perturbedAnswers) {
  public Row {
    perturbedAnswers = List.copyOf(perturbedAnswers);
  }

  /** The row as a reader would see it. */
  public Example toExample(String source) {
    return new Example(question, answer, List.of(paraphrasedAnswer), perturbedAnswers, source);
  }
}
