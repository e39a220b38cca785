package org.lethe.run;

import org.lethe.UserException;
import org.lethe.config.RunConfig;
import org.lethe.kernels.Backend;
import org.lethe.model.AdapterWidths;
import org.lethe.model.Head;
import org.lethe.model.InferenceMemory;
import org.lethe.model.MemoryPlan;
import org.lethe.model.Model;
import org.lethe.model.ScratchPlan;
import org.lethe.train.DeviceCosts;
import org.lethe.train.MemorySettings;
import org.lethe.train.Step;
import org.lethe.train.TrainSettings;

/** Keeps evaluation and sampling within a run's budget, or says before they begin what is short. */
final class EvaluationRoom {
  private EvaluationRoom() {}

  /**
   * Bounds of steps that leave room for what the run asks of the model between them. Where steps
   * are captured, the scratch memory for that is taken here.
   *
   * @param loaded with everything that trains
   * @param samples whether answers are sampled then
   */
  static MemorySettings beside(
      RunConfig config, LoadedModel loaded, boolean samples, TrainSettings settings) {
    MemorySettings bounds = settings.memory();
    boolean captures = Step.capturesGraphs(loaded.model(), settings);
    if (bounds.budget() == 0 && !captures) {
      return bounds;
    }
    Judging judging = Judging.besideSteps(config, samples, loaded);
    InferenceMemory memory = InferenceMemory.of(loaded.model());
    ScratchPlan scratch = loaded.model().scratch();
    loaded.takesScratch(config, Math.max(scratch.loading(), judging.scratch(scratch, memory)));
    if (captures) {
      loaded.backend().reserveScratch(loaded.scratch());
    }
    return bounds.budget() == 0
        ? bounds
        : bounds.keeping(judging.leastBeside(memory), loaded.scratch());
  }

  /**
   * Refuses to judge a model where even one row, or one answer, at a time does not fit.
   *
   * @param widths of all adapters that will lie on it
   * @param coming bytes that will be taken until then
   * @throws UserException saying what is needed, for what, and which settings help
   */
  static void require(RunConfig config, LoadedModel loaded, AdapterWidths widths, long coming) {
    long budget = config.memory().budgetBytes();
    if (budget == 0) {
      return;
    }
    Model model = loaded.model();
    InferenceMemory memory =
        new InferenceMemory(
            model.config(), model.ops().dtype(), widths, Head.workspace(model.ops()));
    EvaluationSizes sizes = EvaluationSizes.of(config, Evaluate.encoder(config.evaluate(), loaded));
    ScratchPlan scratch = model.scratch();
    loaded.takesScratch(config, Math.max(scratch.loading(), sizes.scratch(scratch, memory)));
    long held = loaded.backend().allocatedBytes() + overhead(loaded) + loaded.scratch() + coming;
    if (held + sizes.least(memory) > budget) {
      throw tooMuch(sizes, memory, budget, held);
    }
  }

  private static long overhead(LoadedModel loaded) {
    return DeviceCosts.of(loaded.backend().isHost()).overheadBytes();
  }

  private static UserException tooMuch(
      EvaluationSizes sizes, InferenceMemory memory, long budget, long held) {
    long least = sizes.least(memory);
    long shorter = least - sizes.withFresh(1).least(memory);
    MemoryPlan plan =
        new MemoryPlan()
            .part("model, adapters, optimizer and libraries", held)
            .part("scoring a row of " + sizes.longest() + " tokens", sizes.scoring(memory, 0))
            .part(
                "generating one answer, " + sizes.length(memory) + " tokens with its prompt",
                sizes.generation(memory, 0))
            .remedy("memory.budget=" + ((held + least) / 1_000_000 + 1) + "MB")
            .remedy("evaluate.max_new_tokens=1", shorter)
            .remedy("shorter rows (data.context_length), or dtype=bf16");
    return new UserException(
        "memory.budget is "
            + Backend.amount(budget)
            + ", which is too little to evaluate the model"
            + plan);
  }
}
