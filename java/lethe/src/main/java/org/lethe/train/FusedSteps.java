package org.lethe.train;

import java.util.List;
import org.lethe.UserException;
import org.lethe.model.FusedUpdate;
import org.lethe.model.Model;

/** What a step whose backward pass updates the weights itself cannot be, and how it fails. */
public final class FusedSteps {
  private FusedSteps() {}

  private static boolean isFused(Model model) {
    return model.trainable() != null && model.trainable().fused() != null;
  }

  /**
   * Refuses what needs the gradients of a whole step at once.
   *
   * @throws UserException when the settings or the shards do
   */
  static void requireSettings(Model model, TrainSettings settings, Sharding sharding) {
    if (isFused(model)) {
      requireSettings(
          settings.maxGradientNorm(),
          settings.onNonFinite(),
          sharding.size(),
          settings.parity().microBatchRows());
    }
  }

  /** Whether {@link #requireSettings} refuses none of these. */
  public static boolean possible(
      double maxGradientNorm,
      TrainSettings.OnNonFinite onNonFinite,
      int shards,
      int microBatchRows) {
    return !adds(shards, microBatchRows) && !skipsTooLate(maxGradientNorm, onNonFinite);
  }

  private static boolean adds(int shards, int microBatchRows) {
    return shards > 1 || microBatchRows > 0;
  }

  private static boolean skipsTooLate(
      double maxGradientNorm, TrainSettings.OnNonFinite onNonFinite) {
    return maxGradientNorm == 0 && onNonFinite == TrainSettings.OnNonFinite.SKIP;
  }

  /**
   * The same, where there is no model yet.
   *
   * @throws UserException when they need the gradients of a whole step at once
   */
  public static void requireSettings(
      double maxGradientNorm,
      TrainSettings.OnNonFinite onNonFinite,
      int shards,
      int microBatchRows) {
    if (adds(shards, microBatchRows)) {
      throw new UserException(
          "train.fused_update uses a layer's gradients up as soon as they are there, but "
              + (shards > 1 ? "train.shards" : "parity.micro_batch_rows")
              + " adds up those of several backward passes; set train.fused_update=false, or "
              + (shards > 1 ? "train.shards=1" : "parity.micro_batch_rows=0"));
    }
    if (skipsTooLate(maxGradientNorm, onNonFinite)) {
      throw new UserException(
          "train.on_non_finite=skip leaves the weights alone where a gradient is not finite, but a"
              + " fused update without a clip has moved some of them by then; set"
              + " train.max_gradient_norm above 0, which looks at all gradients first in a backward"
              + " pass of its own, or train.on_non_finite=stop");
    }
  }

  /**
   * Refuses steps that would be cut into pieces.
   *
   * @throws UserException for the first of them
   */
  static void requireOnePiece(
      Model model,
      MicroBatch.Layout layout,
      TrainSettings settings,
      Iterable<List<StepSequence>> steps) {
    if (!isFused(model)) {
      return;
    }
    int index = 0;
    for (List<StepSequence> step : steps) {
      StepCut cut = new StepCut(step, layout);
      int whole = cut.largest(Integer.MAX_VALUE);
      if (cut.largest(settings.tokensPerMicroBatch()) < whole) {
        throw new UserException(
            "train.fused_update uses a layer's gradients up as soon as they are there, but step "
                + index
                + " has "
                + whole
                + " tokens, which train.tokens_per_micro_batch="
                + settings.tokensPerMicroBatch()
                + " cuts into pieces; set train.tokens_per_micro_batch="
                + whole
                + " or more, a smaller train.batch_size, or train.fused_update=false");
      }
      index++;
    }
  }

  static FusedUpdate.Settings how(TrainSettings settings, double learningRate) {
    return new FusedUpdate.Settings(
        (float) settings.maxGradientNorm(),
        settings.adamW(),
        (float) learningRate,
        settings.seed());
  }

  /** Some weights moved before a gradient was found that is not finite. */
  static UserException halfUpdated(int index, List<StepSequence> sequences) {
    List<String> sources = sequences.stream().map(StepSequence::source).distinct().toList();
    return new UserException(
        "step "
            + index
            + ": a gradient is not finite, and weights of the layers above it may have been updated"
            + " already, since train.fused_update is on and train.max_gradient_norm is 0: the model"
            + " is not what it was before the step. The batch: "
            + String.join(", ", sources)
            + ". Go on from the last checkpoint (lethe resume) with a lower train.learning_rate, or"
            + " set train.max_gradient_norm above 0, which looks at all gradients before it updates"
            + " any");
  }
}
