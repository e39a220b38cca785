package org.lethe.train;

import org.lethe.UserException;
import org.lethe.kernels.AdamWSettings;

/**
 * What a run does apart from its data and its method.
 *
 * @param steps updates of the whole run
 * @param learningRate the peak
 * @param warmupSteps of the schedule
 * @param maxGradientNorm the global norm is clipped to it; 0 does not clip
 * @param tokensPerMicroBatch a step is cut into pieces of at most that many tokens; a pair longer
 *     than that is one piece
 * @param onNonFinite what follows a loss or gradient that is not finite
 * @param seed of dropout masks, where adapters have dropout
 * @param parity quirks of published code
 * @param memory what may be taken of the device
 * @param graphs whether device work is captured and launched as one
 * @param sharedPrefixes whether sequences of a step that begin alike share what they begin with
 */
public record TrainSettings(
    int steps,
    double learningRate,
    Schedule schedule,
    int warmupSteps,
    double beta1,
    double beta2,
    double eps,
    double weightDecay,
    double maxGradientNorm,
    int tokensPerMicroBatch,
    OnNonFinite onNonFinite,
    long seed,
    Parity parity,
    MemorySettings memory,
    Graphs graphs,
    SharedPrefixes sharedPrefixes) {

  /**
   * What follows a loss or gradient that is not finite. The parameters are left as they were either
   * way.
   */
  public enum OnNonFinite {
    /** The run ends with an exception that names the batch. */
    STOP,
    /** The step is counted as skipped and the run goes on. */
    SKIP
  }

  /**
   * Whether sequences of a step that begin with the same tokens share one copy of them. The
   * objective is the same; with dropout in adapters, and with padding, nothing is shared.
   */
  public enum SharedPrefixes {
    /** Where it leaves out enough tokens to be worth it. */
    AUTO,
    /** Wherever it leaves out a token. */
    ON,
    /** Never. */
    OFF
  }

  public TrainSettings {
    require(steps >= 1, "steps", steps, "at least 1");
    require(
        learningRate > 0 && Double.isFinite(learningRate),
        "learning_rate",
        learningRate,
        "above 0");
    require(warmupSteps >= 0, "warmup_steps", warmupSteps, "at least 0");
    require(beta1 >= 0 && beta1 < 1, "adam_beta1", beta1, "in [0, 1)");
    require(beta2 >= 0 && beta2 < 1, "adam_beta2", beta2, "in [0, 1)");
    require(eps > 0, "adam_eps", eps, "above 0");
    require(weightDecay >= 0, "weight_decay", weightDecay, "at least 0");
    require(maxGradientNorm >= 0, "max_gradient_norm", maxGradientNorm, "at least 0");
    require(tokensPerMicroBatch >= 1, "tokens_per_micro_batch", tokensPerMicroBatch, "at least 1");
  }

  /** Settings without quirks, with dropout masks of seed 0. */
  public TrainSettings(
      int steps,
      double learningRate,
      Schedule schedule,
      int warmupSteps,
      double beta1,
      double beta2,
      double eps,
      double weightDecay,
      double maxGradientNorm,
      int tokensPerMicroBatch,
      OnNonFinite onNonFinite) {
    this(
        steps,
        learningRate,
        schedule,
        warmupSteps,
        beta1,
        beta2,
        eps,
        weightDecay,
        maxGradientNorm,
        tokensPerMicroBatch,
        onNonFinite,
        0,
        Parity.NONE,
        MemorySettings.UNBOUNDED,
        Graphs.NEVER,
        SharedPrefixes.AUTO);
  }

  /**
   * AdamW with PyTorch's defaults but no decay, norm clipped to 1, 4096 tokens a piece, stopping
   * when not finite.
   */
  public static TrainSettings of(
      int steps, double learningRate, Schedule schedule, int warmupSteps) {
    return new TrainSettings(
        steps, learningRate, schedule, warmupSteps, 0.9, 0.999, 1e-8, 0, 1, 4096, OnNonFinite.STOP);
  }

  /** The same, cut into pieces of at most so many tokens: less memory, and the same objective. */
  public TrainSettings withTokensPerMicroBatch(int tokens) {
    return with(tokens, seed, parity, memory, graphs, sharedPrefixes);
  }

  /** The same with other dropout masks. */
  public TrainSettings withSeed(long other) {
    return with(tokensPerMicroBatch, other, parity, memory, graphs, sharedPrefixes);
  }

  /** The same with quirks of published code. */
  public TrainSettings with(Parity quirks) {
    return with(tokensPerMicroBatch, seed, quirks, memory, graphs, sharedPrefixes);
  }

  /** The same within other bounds of memory. */
  public TrainSettings with(MemorySettings bounds) {
    return with(tokensPerMicroBatch, seed, parity, bounds, graphs, sharedPrefixes);
  }

  /** The same with the device's work captured in graphs, or not. */
  public TrainSettings with(Graphs captured) {
    return with(tokensPerMicroBatch, seed, parity, memory, captured, sharedPrefixes);
  }

  /** The same with prefixes shared or not. */
  public TrainSettings with(SharedPrefixes shared) {
    return with(tokensPerMicroBatch, seed, parity, memory, graphs, shared);
  }

  private TrainSettings with(
      int tokens,
      long masks,
      Parity quirks,
      MemorySettings bounds,
      Graphs captured,
      SharedPrefixes shared) {
    return new TrainSettings(
        steps,
        learningRate,
        schedule,
        warmupSteps,
        beta1,
        beta2,
        eps,
        weightDecay,
        maxGradientNorm,
        tokens,
        onNonFinite,
        masks,
        quirks,
        bounds,
        captured,
        shared);
  }

  AdamWSettings adamW() {
    return new AdamWSettings((float) beta1, (float) beta2, (float) eps, (float) weightDecay);
  }

  private static void require(boolean holds, String key, Number value, String rule) {
    if (!holds) {
      throw new UserException("train." + key + " is " + value + ", must be " + rule);
    }
  }
}
