package org.lethe.config;

/** Optimizer (AdamW) and schedule. */
public record TrainConfig(
    @Doc("Passes over the rows; unused when steps is given") @Default("5") int epochs,
    @Doc("Updates to make; 0: as many as epochs says") @Default("0") int steps,
    @Doc("Rows per update: forget rows in unlearn (each brings its retain row)") @Default("8")
        int batchSize,
    @Doc("Peak learning rate") @Default("1e-3") double learningRate,
    @Doc("Learning rate after warm-up: constant, linear (to 0) or cosine (to 0)")
        @Default("constant")
        Schedule schedule,
    @Doc("Updates over which the learning rate rises from 0") @Default("0") int warmupSteps,
    @Doc("AdamW's decoupled weight decay") @Default("0.0") double weightDecay,
    @Doc("Decay of the first moment") @Default("0.9") double adamBeta1,
    @Doc("Decay of the second moment") @Default("0.999") double adamBeta2,
    @Doc("Added to the root of the second moment") @Default("1e-8") double adamEps,
    @Doc("Gradients are scaled down to this global norm; 0: never") @Default("1.0")
        double maxGradientNorm,
    @Doc("Tokens computed at once; more rows are accumulated") @Default("4096")
        int tokensPerMicroBatch,
    @Doc("A loss or gradient that is not finite: stop, or skip the step and count it")
        @Default("stop")
        OnNonFinite onNonFinite,
    @Doc("Train all weights instead of adapters") @Default("false") boolean fullParameters) {

  /** What follows a loss or gradient that is not finite; the parameters stay as they were. */
  public enum OnNonFinite {
    STOP,
    SKIP
  }

  /** Course of the learning rate after warm-up. */
  public enum Schedule {
    CONSTANT,
    LINEAR,
    COSINE
  }

  public TrainConfig {
    Check.atLeast("epochs", 1, epochs);
    Check.atLeast("steps", 0, steps);
    Check.atLeast("batch_size", 1, batchSize);
    Check.positive("learning_rate", learningRate);
    Check.atLeast("warmup_steps", 0, warmupSteps);
    Check.notNegative("weight_decay", weightDecay);
    Check.fraction("adam_beta1", adamBeta1);
    Check.fraction("adam_beta2", adamBeta2);
    Check.positive("adam_eps", adamEps);
    Check.notNegative("max_gradient_norm", maxGradientNorm);
    Check.atLeast("tokens_per_micro_batch", 1, tokensPerMicroBatch);
  }
}
