package org.lethe.run;

import java.util.List;
import org.lethe.kernels.AdamWSettings;
import org.lethe.kernels.Dtype;
import org.lethe.kernels.Ops;
import org.lethe.kernels.Staging;
import org.lethe.method.Method;
import org.lethe.model.LoraConfig;
import org.lethe.model.Model;
import org.lethe.model.RandomWeights;
import org.lethe.model.Trainable;
import org.lethe.model.WeightPlacement;
import org.lethe.train.Schedule;
import org.lethe.train.Step;
import org.lethe.train.StepSequence;
import org.lethe.train.StepSizing;
import org.lethe.train.TrainSettings;

/** A whole training step of adapters on all linears of a model with random weights. */
final class BenchStep {
  private static final int RANK = 8;
  private static final double ALPHA = 16;
  private static final double LEARNING_RATE = 1e-4;
  private static final long SEED = 20240607;
  // How far the loss may fall short of, or beyond, what the gradient promises: the curvature over
  // the check's step, and the storage's rounding of the losses whose difference is taken.
  private static final double FP32_TOLERANCE = 0.1;
  private static final double BF16_TOLERANCE = 0.3;
  private static final double EPS = 1e-8;

  private BenchStep() {}

  static Bench.Timing time(Ops ops, Bench.Options options, Method method) {
    LoraConfig lora = LoraConfig.all(RANK, ALPHA);
    RandomWeights weights = new RandomWeights(options.model(), SEED);
    try (Model model =
        Model.load(ops, options.model(), weights, WeightPlacement.PLAIN, List.of(lora))) {
      model.addLora(lora, SEED);
      List<StepSequence> sequences =
          Bench.sequences(
              method, options.model().vocabularySize(), options.pairs(), options.length());
      TrainSettings settings = TrainSettings.of(1, LEARNING_RATE, Schedule.CONSTANT, 0);
      int largest = StepSizing.largestPiece(model, method, settings, null, List.of(sequences));
      try (Step step = new Step(model, method, settings, null, largest)) {
        checkDescent(model.trainable(), step, sequences);
        int tokens = sequences.stream().mapToInt(s -> s.tokens().ids().length).sum();
        String shape =
            method.name()
                + ", LoRA r=8, "
                + sequences.size()
                + " sequences of "
                + options.length()
                + " tokens";
        int shared = step.gradients(sequences).sharedTokens();
        double flop = GemmFloor.flops(options.model(), method, sequences, shared);
        return Bench.time(
            ops.backend(),
            options,
            "step",
            shape,
            flop,
            tokens,
            () -> step.run(0, sequences, LEARNING_RATE));
      }
    }
  }

  /**
   * One small update, after which the loss must have fallen by what the gradient promises: forward,
   * backward and update agree with each other.
   */
  private static void checkDescent(Trainable trainable, Step step, List<StepSequence> sequences) {
    double before = step.gradients(sequences).loss();
    int n = Math.toIntExact(trainable.layout().elements());
    float[] gradient = new float[n];
    try (Staging staging = new Staging(n * Float.BYTES)) {
      staging.download(trainable.arena().buffer(), trainable.gradientsOffset(), gradient, n);
    }
    // AdamW's first update without decay and clip is -rate * g / (|g| + eps).
    double promised = 0;
    for (float g : gradient) {
      promised += LEARNING_RATE * g * g / (Math.abs((double) g) + EPS);
    }
    trainable.measure(0);
    trainable.update(new AdamWSettings(0.9f, 0.999f, (float) EPS, 0), (float) LEARNING_RATE);
    double fell = before - step.gradients(sequences).loss();
    boolean fp32 = trainable.ops().dtype() == Dtype.F32;
    double tolerance = promised * (fp32 ? FP32_TOLERANCE : BF16_TOLERANCE);
    Bench.check("the fall of the loss after an update", fell, promised, tolerance);
  }
}
