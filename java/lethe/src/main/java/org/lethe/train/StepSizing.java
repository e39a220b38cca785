package org.lethe.train;

import java.util.List;
import java.util.function.IntUnaryOperator;
import org.lethe.UserException;
import org.lethe.method.Method;
import org.lethe.model.Model;

/**
 * How large a run's steps are, into what pieces they are cut, and the step that is made for them:
 * what is known before the first one runs.
 */
public final class StepSizing {
  private StepSizing() {}

  /**
   * A step that keeps to {@link TrainSettings#memory}: cut and with as many layers computed again
   * as that asks.
   *
   * @param sizes steps at least as large as those that will be run
   * @throws UserException when there is no way to
   */
  public static Step fitted(
      Model model,
      Method method,
      TrainSettings settings,
      ReferenceCache reference,
      Iterable<List<StepSequence>> sizes,
      Sharding sharding) {
    StepSizes seen =
        new StepSizes(
            layout(model, method, reference, settings), StepSizes.STEPS, StepSizes.NUMBERS);
    StepSizes.Sequences sequences = new StepSizes.Sequences(method, reference);
    for (List<StepSequence> step : sizes) {
      seen.add(step);
      sequences.add(step);
    }
    StepCuts cuts = seen.cuts();
    IntUnaryOperator rows = headRows(method, settings, reference);
    StepMemory memory = StepMemory.of(model, settings, rows);
    int most = PieceShape.sequences(sequences.most(), memory.filled());
    StepFit fit =
        StepBudget.fit(
            model,
            settings,
            rows,
            // A fused update cannot be cut.
            StepGraphs.fuses(model) ? StepCuts.whole(cuts) : cuts,
            most);
    TrainSettings cut = settings.withTokensPerMicroBatch(fit.limit());
    requireFusable(model, method, cut, reference, sizes);
    Step step = new Step(model, method, cut, reference, fit.piece(), sharding, fit.policy());
    long bytes = PieceShape.scratch(model.scratch(), memory, most, fit.piece());
    step.takes(bytes);
    if (Step.capturesGraphs(model, settings)) {
      try {
        model.ops().backend().reserveScratch(bytes);
      } catch (RuntimeException e) {
        step.close();
        throw e;
      }
    }
    return step;
  }

  /** The most head rows of a piece of so many tokens. */
  public static IntUnaryOperator headRows(
      Method method, TrainSettings settings, ReferenceCache reference) {
    return layout(method, reference, settings, true, Prefixes.NONE, 0)::rows;
  }

  /** How a run's steps can be cut, were no prefix shared. */
  public static StepCuts cuts(
      Method method,
      TrainSettings settings,
      ReferenceCache reference,
      Iterable<List<StepSequence>> steps) {
    return StepSizes.cuts(steps, layout(method, reference, settings, true, Prefixes.NONE, 0));
  }

  /** Tokens of the largest piece that a run's steps are cut into, were no prefix shared. */
  public static int largestPiece(
      Method method,
      TrainSettings settings,
      ReferenceCache reference,
      Iterable<List<StepSequence>> steps) {
    return cuts(method, settings, reference, steps).largest(settings.tokensPerMicroBatch());
  }

  /** Tokens of the largest piece that the steps of a run with this model are cut into. */
  public static int largestPiece(
      Model model,
      Method method,
      TrainSettings settings,
      ReferenceCache reference,
      Iterable<List<StepSequence>> steps) {
    return StepSizes.cuts(steps, layout(model, method, reference, settings))
        .largest(settings.tokensPerMicroBatch());
  }

  /** Refuses steps that a fused update would have to cut into pieces. */
  private static void requireFusable(
      Model model,
      Method method,
      TrainSettings settings,
      ReferenceCache reference,
      Iterable<List<StepSequence>> steps) {
    Prefixes prefixes = Prefixes.of(settings, model);
    MicroBatch.Layout layout = layout(method, reference, settings, true, prefixes, 0);
    FusedSteps.requireOnePiece(model, layout, settings, steps);
  }

  static MicroBatch.Layout layout(
      Model model, Method method, ReferenceCache reference, TrainSettings settings) {
    return layout(method, reference, settings, true, Prefixes.of(settings, model), 0);
  }

  static MicroBatch.Layout layout(
      Method method,
      ReferenceCache reference,
      TrainSettings settings,
      boolean base,
      Prefixes prefixes,
      int vocabulary) {
    MicroBatch.ReferenceNll cache = reference == null ? null : reference::nll;
    return new MicroBatch.Layout(
        method, cache, base, settings.parity().padding(), prefixes, vocabulary);
  }
}
