package org.lethe.config;

import java.util.List;
import java.util.Optional;

/** Optimizer (AdamW) and schedule. */
public record TrainConfig(
    @Doc("Passes over the rows; unused when steps is given") @Default("5") int epochs,
    @Doc("Updates to make, at most 1000000; 0: as many as epochs says") @Default("0") int steps,
    @Doc("Rows per update: forget rows in unlearn (each brings its retain row)") @Default("8")
        int batchSize,
    @Doc(
            "Whether unlearn refuses a batch_size that is not the number of forget rows: one update"
                + " an epoch, as in Jang et al.")
        @Default("false")
        boolean fullBatch,
    @Doc("Peak learning rate") @Default("1e-3") double learningRate,
    @Doc("Learning rate after warm-up: constant, linear (to 0) or cosine (to 0)")
        @Default("constant")
        Schedule schedule,
    @Doc("Updates over which the learning rate rises from 0") @Default("0") int warmupSteps,
    @Doc("The same in epochs, such as 0.5; give one of the two") @Default("0.0")
        double warmupEpochs,
    @Doc("AdamW's decoupled weight decay") @Default("0.0") double weightDecay,
    @Doc("Decay of the first moment") @Default("0.9") double adamBeta1,
    @Doc("Decay of the second moment") @Default("0.999") double adamBeta2,
    @Doc("Added to the root of the second moment") @Default("1e-8") double adamEps,
    @Doc("Gradients are scaled down to this global norm; 0: never") @Default("1.0")
        double maxGradientNorm,
    @Doc("Tokens computed at once; more rows are accumulated") @Default("4096")
        int tokensPerMicroBatch,
    @Doc(
            "Sequences of a step that begin alike, such as a question's answer and its refusal,"
                + " share those tokens: auto (from 16 tokens on), on, or off")
        @Default("auto")
        SharedPrefixes sharedPrefixes,
    @Doc("A loss or gradient that is not finite: stop, or skip the step and count it")
        @Default("stop")
        OnNonFinite onNonFinite,
    @Doc("Train all weights instead of adapters") @Default("false") boolean fullParameters,
    @Doc(
            "What updates are added to: fp32 (a master copy beside bf16 weights), or none (the bf16"
                + " weights themselves, rounded stochastically)")
        @Default("fp32")
        Master master,
    @Doc("AdamW's moments: fp32, or 8bit (one byte each in blocks of 256)") @Default("fp32")
        OptimizerState optimizerState,
    @Doc(
            "Update each layer as soon as its backward pass is through, so that one layer's"
                + " gradients exist at a time; with full_parameters. A max_gradient_norm costs a"
                + " second forward and backward pass then")
        @Default("false")
        boolean fusedUpdate,
    @Doc("Sides a step trains: joint (both), or forget and retain in turns of steps or epochs")
        @Default("joint")
        Turns turns,
    @Doc("Forget steps (or epochs) of a turn; unused with joint") @Default("1") int forgetTurn,
    @Doc("Retain steps (or epochs) that follow them; unused with joint") @Default("1")
        int retainTurn,
    @Doc("Updates on each batch before the next one is taken") @Default("1") int stepsPerBatch,
    @Doc("Parts a step is cut into; their gradients are added in order, as by as many processes")
        @Default("1")
        int shards,
    @Doc(
            "Capture the device's work for each shape of batch and launch it as one: never,"
                + " auto (where backend and batch allow it) or always (an error where not)")
        @Default("never")
        Graphs graphs,
    @Doc(
            "Rows of logits that exist at a time on a CUDA device; 0: as many as its workspace"
                + " holds, -1: measured at the start, as head_tiles is then, and kept with the run")
        @Default("0")
        int headChunk,
    @Doc(
            "Which of the matrix library's algorithms a CUDA device takes for the logits and for"
                + " their gradient, by their places in its list: two numbers, 0 for the one that it"
                + " recommends")
        @Default("[0, 0]")
        List<Integer> headTiles,
    @Doc(
            "Device and matrix library in whose list head_tiles are places, kept with them where"
                + " they were measured; on others a run refuses them; unset: any")
        Optional<String> headTilesOf,
    @Doc("Rules that end training, the first that holds: forget.probability <= 0.05 for 2")
        @Default("[]")
        List<String> stopWhen) {

  /** {@link #headTiles} where nothing is said. */
  public static final List<Integer> RECOMMENDED_TILES = List.of(0, 0);

  /** What follows a loss or gradient that is not finite; the parameters stay as they were. */
  public enum OnNonFinite {
    STOP,
    SKIP
  }

  /** Whether the device's work is captured in graphs. */
  public enum Graphs {
    NEVER,
    AUTO,
    ALWAYS
  }

  /** What updates are added to. */
  public enum Master {
    FP32,
    NONE
  }

  /** How AdamW's moments are kept. */
  public enum OptimizerState {
    FP32("fp32"),
    EIGHT_BIT("8bit");

    private final String text;

    OptimizerState(String text) {
      this.text = text;
    }

    @Override
    public String toString() {
      return text;
    }
  }

  /** Whether sequences that begin alike share what they begin with. */
  public enum SharedPrefixes {
    AUTO,
    ON,
    OFF
  }

  /** How forget and retain rows share the steps. */
  public enum Turns {
    JOINT,
    STEPS,
    EPOCHS
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
    Check.notNegative("warmup_epochs", warmupEpochs);
    if (warmupSteps > 0 && warmupEpochs > 0) {
      throw new IllegalArgumentException(
          "warmup_steps and warmup_epochs exclude each other; give one of them");
    }
    Check.atLeast("forget_turn", 1, forgetTurn);
    Check.atLeast("retain_turn", 1, retainTurn);
    Check.atLeast("steps_per_batch", 1, stepsPerBatch);
    Check.within("shards", 1, 4096, shards);
    Check.atLeast("head_chunk", -1, headChunk);
    if (headTiles.size() != 2 || headTiles.stream().anyMatch(place -> place < 0)) {
      throw new IllegalArgumentException(
          "head_tiles is "
              + headTiles
              + ", but must be two numbers from 0 on: for the logits, and for their gradient");
    }
    if (headChunk == -1 && !headTiles.equals(RECOMMENDED_TILES)) {
      throw new IllegalArgumentException(
          "head_tiles is measured where head_chunk is -1; leave it out, or set head_chunk");
    }
  }
}
