package org.lethe.run;

import java.util.ArrayList;
import java.util.List;
import org.lethe.UserException;
import org.lethe.config.RunConfig;
import org.lethe.data.Example;
import org.lethe.kernels.HeadOps;
import org.lethe.model.Generator;

/**
 * Alternate answers that a model makes up itself, for AltPO (Mekala et al., "Alternate Preference
 * Optimization for Unlearning Factual Knowledge in Large Language Models", arXiv 2409.13474): it is
 * shown question and answer, told to answer with other facts, and drawn from several times. As in
 * open-unlearning's community/methods/AltPO, with words of our own.
 */
public final class Alternates {
  /** What the model is told by default, after question and answer. */
  public static final String INSTRUCTION =
      "Invent another answer to the question. Keep what the question says, but replace every fact"
          + " that the answer adds by a different one that is just as plausible. Reply with the new"
          + " answer only.";

  private static final int AT_A_TIME = 16;

  /**
   * How alternates are made.
   *
   * @param repeats draws a row, at least 1
   * @param maxNewTokens longest alternate, at least 1
   * @param instruction what the model is told after question and answer
   */
  public record Request(
      int repeats, int maxNewTokens, String instruction, HeadOps.Sampling sampling) {}

  /**
   * What was made.
   *
   * @param rows the rows, each with its alternates
   * @param left draws that were left out because nothing was said or the answer itself was repeated
   */
  public record Result(List<Example> rows, int left) {}

  private Alternates() {}

  /**
   * Makes alternates of rows by the configured model. A draw depends on seed, row and repeat alone.
   *
   * @throws UserException naming a row that got none
   */
  public static Result make(RunConfig config, List<Example> rows, Request request) {
    try (LoadedModel loaded = LoadedModel.open(config)) {
      List<int[]> prompts = new ArrayList<>();
      for (Example row : rows) {
        int[] prompt = loaded.encoder().encodePrompt(told(row, request.instruction()));
        for (int repeat = 0; repeat < request.repeats(); repeat++) {
          prompts.add(prompt);
        }
      }
      int longest = prompts.stream().mapToInt(p -> p.length).max().orElse(1);
      int context = loaded.model().config().contextLength();
      if (longest >= context) {
        throw new UserException(
            "question, answer and instruction have up to "
                + longest
                + " tokens and leave no room for an alternate in a context of "
                + context
                + "; shorten the instruction or the rows");
      }
      int slots = Math.min(AT_A_TIME, prompts.size());
      try (Generator generator =
          new Generator(
              loaded.model(),
              slots,
              (long) longest + request.maxNewTokens(),
              loaded.model().view())) {
        List<String> said =
            generator
                .sample(
                    prompts, request.maxNewTokens(), loaded.encoder().stopIds(), request.sampling())
                .stream()
                .map(ids -> loaded.tokenizer().decode(ids).strip())
                .toList();
        return collected(rows, said, request.repeats());
      }
    }
  }

  /** What the model is asked: question, answer, instruction. */
  static String told(Example row, String instruction) {
    return "Question: " + row.question() + "\nAnswer: " + row.answer() + "\n" + instruction;
  }

  private static Result collected(List<Example> rows, List<String> said, int repeats) {
    List<Example> made = new ArrayList<>();
    int left = 0;
    for (int i = 0; i < rows.size(); i++) {
      Example row = rows.get(i);
      List<String> alternates =
          said.subList(i * repeats, (i + 1) * repeats).stream()
              .filter(text -> !text.isBlank() && !text.equals(row.answer().strip()))
              .toList();
      left += repeats - alternates.size();
      if (alternates.isEmpty()) {
        throw new UserException(
            row.source()
                + ": the model made no alternate of this row in "
                + repeats
                + " draws; draw more often, at a higher temperature, or with another instruction");
      }
      made.add(row.withAlternates(alternates));
    }
    return new Result(made, left);
  }
}
