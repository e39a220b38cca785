package org.lethe.run;

import java.util.LinkedHashMap;
import java.util.Map;
import org.lethe.config.RunConfig;
import org.lethe.data.Example;
import org.lethe.data.ExampleEncoder;
import org.lethe.model.InferenceMemory;
import org.lethe.model.ScratchPlan;
import org.lethe.train.Every;

/**
 * What a run asks of its model besides training it, and whether the memory of its steps is taken
 * meanwhile.
 *
 * @param sizes of what is judged
 * @param beside whether that is between steps, too
 * @param after whether it is after the last step (and before the first), when steps take nothing
 * @param sampled what is sampled between steps
 */
record Judging(EvaluationSizes sizes, boolean beside, boolean after, EvaluationSizes sampled) {
  /** Only steps. */
  static final Judging NONE = new Judging(EvaluationSizes.NONE, false, false, EvaluationSizes.NONE);

  /**
   * Of a configured run.
   *
   * @param rowTokens of its longest row
   */
  static Judging planned(RunConfig config, Task task, int rowTokens) {
    boolean samples = task == Task.UNLEARN && QuarkRun.isMethod(config.method());
    return new Judging(
        EvaluationSizes.planned(config, rowTokens),
        isBeside(config),
        task == Task.UNLEARN,
        samples ? EvaluationSizes.sampled(config, rowTokens + 1) : EvaluationSizes.NONE);
  }

  /** Between the steps of a run, as its rows are. */
  static Judging besideSteps(RunConfig config, boolean samples, LoadedModel loaded) {
    boolean judges = isBeside(config);
    return new Judging(
        judges
            ? EvaluationSizes.of(config, Evaluate.encoder(config.evaluate(), loaded))
            : EvaluationSizes.NONE,
        judges,
        false,
        samples
            ? EvaluationSizes.sampled(config, longestPrompt(config, loaded.encoder()) + 1)
            : EvaluationSizes.NONE);
  }

  private static int longestPrompt(RunConfig config, ExampleEncoder encoder) {
    Unlearn.Rows rows = Unlearn.Rows.read(config);
    int longest = 0;
    for (Example row : rows.forget()) {
      longest = Math.max(longest, encoder.encodePrompt(row.question()).length);
    }
    if (config.quark().retainPrompts()) {
      for (Example row : rows.retain()) {
        longest = Math.max(longest, encoder.encodePrompt(row.question()).length);
      }
    }
    return longest;
  }

  private static boolean isBeside(RunConfig config) {
    return !Every.parse(config.evaluate().every(), "evaluate.every").equals(Every.NEVER);
  }

  /** The same, but between steps nothing is judged. */
  Judging afterAlone() {
    return new Judging(sizes, false, after, sampled);
  }

  /** The same with answers of at most so many tokens. */
  Judging withFresh(int tokens) {
    return new Judging(sizes.withFresh(tokens), beside, after, sampled);
  }

  /** The least bytes that it takes while the steps' memory is taken. */
  long leastBeside(InferenceMemory memory) {
    long judged = beside ? sizes.least(memory) : 0;
    return Math.max(judged, sampled.least(memory));
  }

  /** The least bytes that it takes when it is not. */
  long leastAfter(InferenceMemory memory) {
    return after ? sizes.least(memory) : 0;
  }

  /** Bytes of the engine's scratch memory. */
  long scratch(ScratchPlan plan, InferenceMemory memory) {
    long judged = beside || after ? sizes.scratch(plan, memory) : 0;
    return Math.max(judged, sampled.scratch(plan, memory));
  }

  /** What it takes while the steps' memory is taken, with so much room beside that. */
  Map<String, Long> besideParts(InferenceMemory memory, long room) {
    Map<String, Long> parts = new LinkedHashMap<>();
    if (beside) {
      parts.put("scoring rows between steps", sizes.scoring(memory, room));
      parts.put("generating answers between steps", sizes.generation(memory, room));
    }
    if (sampled.slots() > 0) {
      parts.put("sampling answers between steps", sampled.generation(memory, room));
    }
    return parts;
  }

  /** What it takes when it is not, with so much room. */
  Map<String, Long> afterParts(InferenceMemory memory, long room) {
    Map<String, Long> parts = new LinkedHashMap<>();
    if (after) {
      parts.put("scoring rows", sizes.scoring(memory, room));
      parts.put("generating answers", sizes.generation(memory, room));
    }
    return parts;
  }
}
