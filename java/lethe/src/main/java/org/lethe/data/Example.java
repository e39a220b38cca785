package org.lethe.data;

import java.util.List;
import java.util.Objects;

/**
 * One question with its answer.
 *
 * @param question what is asked, not blank
 * @param answer the right answer, not blank
 * @param paraphrasedAnswers rewordings of the right answer; may be empty
 * @param perturbedAnswers wrong answers of the same form; may be empty
 * @param alternateAnswers plausible other answers, which AltPO prefers; may be empty
 * @param sensitive passages of the answer that are sensitive, in order, apart from each other; may
 *     be empty
 * @param source where the row was read, {@code file:line}
 */
public record Example(
    String question,
    String answer,
    List<String> paraphrasedAnswers,
    List<String> perturbedAnswers,
    List<String> alternateAnswers,
    List<Passage> sensitive,
    String source) {
  public Example {
    Objects.requireNonNull(question, "question");
    Objects.requireNonNull(answer, "answer");
    Objects.requireNonNull(source, "source");
    paraphrasedAnswers = List.copyOf(paraphrasedAnswers);
    perturbedAnswers = List.copyOf(perturbedAnswers);
    alternateAnswers = List.copyOf(alternateAnswers);
    sensitive = List.copyOf(Passage.united(sensitive));
  }

  /** A row without other answers to prefer and without sensitive passages. */
  public Example(
      String question,
      String answer,
      List<String> paraphrasedAnswers,
      List<String> perturbedAnswers,
      String source) {
    this(question, answer, paraphrasedAnswers, perturbedAnswers, List.of(), List.of(), source);
  }

  /** The same with these alternates. */
  public Example withAlternates(List<String> alternates) {
    return new Example(
        question, answer, paraphrasedAnswers, perturbedAnswers, alternates, sensitive, source);
  }

  /** A question and its answer that were not read from a file. */
  public static Example of(String question, String answer) {
    return new Example(question, answer, List.of(), List.of(), "a row in memory");
  }
}
