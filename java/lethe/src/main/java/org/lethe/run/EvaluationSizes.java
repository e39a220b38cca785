package org.lethe.run;

import java.nio.file.Files;
import java.util.List;
import java.util.Map;
import java.util.stream.Stream;
import org.lethe.config.RunConfig;
import org.lethe.data.Example;
import org.lethe.data.ExampleEncoder;
import org.lethe.evaluate.SetObservations;
import org.lethe.model.InferenceMemory;
import org.lethe.model.ScratchPlan;

/**
 * How large what a model is judged by is, and with it the memory that judging takes: first all
 * answers of a set are scored, then, when that memory is free again, answers are generated.
 *
 * @param longest tokens of the longest sequence that is scored; 0: none is
 * @param total tokens of the largest set
 * @param texts sequences of it
 * @param slots prompts of it that are continued at a time where there is room; 0: none is
 * @param prompt tokens of the longest prompt
 * @param fresh tokens that may follow it
 * @param whole tokens of the longest text whose prefixes are continued up to its end; 0: none is
 */
record EvaluationSizes(
    int longest, int total, int texts, int slots, int prompt, int fresh, int whole) {
  /** Nothing is judged. */
  static final EvaluationSizes NONE = new EvaluationSizes(0, 0, 0, 0, 0, 0, 0);

  /**
   * Of rows that are known by their number at most.
   *
   * @param rowTokens of the longest row
   */
  static EvaluationSizes planned(RunConfig config, int rowTokens) {
    boolean known =
        Stream.of(
                config.data().forget(),
                config.data().retain(),
                config.data().general(),
                config.data().holdout())
            .flatMap(List::stream)
            .allMatch(Files::exists);
    Map<String, List<Example>> sets = known ? Evaluate.sets(config) : Map.of();
    long rows = 0;
    long answers = 0;
    for (List<Example> set : sets.values()) {
      rows = Math.max(rows, set.size());
      answers = Math.max(answers, set.stream().mapToLong(EvaluationSizes::answers).sum());
    }
    int batch = config.evaluate().batchSize();
    return new EvaluationSizes(
        rowTokens,
        sets.isEmpty() ? Integer.MAX_VALUE : (int) Math.min(Integer.MAX_VALUE, answers * rowTokens),
        sets.isEmpty() ? Integer.MAX_VALUE : (int) answers,
        sets.isEmpty() || extracts(config) ? batch : (int) Math.min(batch, rows),
        rowTokens,
        config.evaluate().maxNewTokens(),
        extracts(config) ? rowTokens : 0);
  }

  /** Of the rows themselves, as a model is asked. */
  static EvaluationSizes of(RunConfig config, ExampleEncoder encoder) {
    EvaluationSizes sizes = NONE;
    for (Map.Entry<String, List<Example>> set : Evaluate.sets(config).entrySet()) {
      sizes = sizes.or(of(config, set.getKey(), set.getValue(), encoder));
    }
    return sizes;
  }

  private static EvaluationSizes of(
      RunConfig config, String name, List<Example> rows, ExampleEncoder encoder) {
    int longest = 0;
    int total = 0;
    int texts = 0;
    int prompt = 0;
    int whole = 0;
    for (Example row : rows) {
      int own = encoder.encode(row).ids().length;
      whole = Math.max(whole, own);
      longest = Math.max(longest, own);
      total += own;
      texts += (int) answers(row);
      for (List<String> others : List.of(row.paraphrasedAnswers(), row.perturbedAnswers())) {
        for (String answer : others) {
          int tokens = encoder.encode(row.question(), answer, row.source()).ids().length;
          longest = Math.max(longest, tokens);
          total += tokens;
        }
      }
      prompt = Math.max(prompt, encoder.encodePrompt(row.question()).length);
    }
    boolean extracted = extracts(config) && SetObservations.EXTRACTED.contains(name);
    int batch = config.evaluate().batchSize();
    return new EvaluationSizes(
        longest,
        total,
        texts,
        extracted ? batch : Math.min(batch, rows.size()),
        prompt,
        config.evaluate().maxNewTokens(),
        extracted ? whole : 0);
  }

  /**
   * Of sampling alone, as a run of Quark does between its steps.
   *
   * @param prompt tokens of the longest question, with its control token
   */
  static EvaluationSizes sampled(RunConfig config, int prompt) {
    int slots = config.evaluate().batchSize();
    return new EvaluationSizes(0, 0, 0, slots, prompt, config.quark().maxNewTokens(), 0);
  }

  private static boolean extracts(RunConfig config) {
    return config.evaluate().extractionN() > 0;
  }

  private static long answers(Example row) {
    return 1L + row.paraphrasedAnswers().size() + row.perturbedAnswers().size();
  }

  /** The larger of each. */
  EvaluationSizes or(EvaluationSizes other) {
    return new EvaluationSizes(
        Math.max(longest, other.longest),
        Math.max(total, other.total),
        Math.max(texts, other.texts),
        Math.max(slots, other.slots),
        Math.max(prompt, other.prompt),
        Math.max(fresh, other.fresh),
        Math.max(whole, other.whole));
  }

  /** The same with answers of at most so many tokens. */
  EvaluationSizes withFresh(int tokens) {
    return new EvaluationSizes(
        longest, total, texts, slots, prompt, Math.min(fresh, tokens), whole);
  }

  /** Bytes of scoring, with so much room. */
  long scoring(InferenceMemory memory, long room) {
    return longest == 0 ? 0 : memory.scoring(scored(memory, room));
  }

  /** Tokens scored at a time, with so much room. */
  int scored(InferenceMemory memory, long room) {
    return memory.tokens(longest, total, room);
  }

  /** Bytes of generating, with so much room. */
  long generation(InferenceMemory memory, long room) {
    int length = length(memory);
    return slots == 0 ? 0 : memory.generation(memory.slots(slots, length, 1, room), length, 1);
  }

  /** Tokens of a prompt with what may follow it. */
  int length(InferenceMemory memory) {
    long asked = Math.max((long) prompt + fresh, Math.max(whole, 2));
    return (int) Math.min(asked, memory.model().contextLength());
  }

  /** Bytes of both, which do not overlap. */
  long bytes(InferenceMemory memory, long room) {
    return Math.max(scoring(memory, room), generation(memory, room));
  }

  /** Bytes of the engine's scratch memory for both, where there is room for all at a time. */
  long scratch(ScratchPlan plan, InferenceMemory memory) {
    return Math.max(
        plan.scoring(longest == 0 ? 0 : scored(memory, Long.MAX_VALUE), texts),
        plan.generation(slots, length(memory)));
  }

  /** Bytes of one row, or one prompt, at a time. */
  long least(InferenceMemory memory) {
    return bytes(memory, 0);
  }
}
