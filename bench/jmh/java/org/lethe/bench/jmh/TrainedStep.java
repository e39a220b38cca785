package org.lethe.bench.jmh;

import java.util.ArrayList;
import java.util.List;
import org.lethe.kernels.Backend;
import org.lethe.kernels.Dtype;
import org.lethe.kernels.Ops;
import org.lethe.method.Method;
import org.lethe.method.Positions;
import org.lethe.method.Use;
import org.lethe.model.LoraConfig;
import org.lethe.model.Model;
import org.lethe.model.ModelConfig;
import org.lethe.model.RandomWeights;
import org.lethe.train.Schedule;
import org.lethe.train.Step;
import org.lethe.train.StepReport;
import org.lethe.train.StepSequence;
import org.lethe.train.StepSizing;
import org.lethe.train.TrainSettings;

/**
 * A model with random weights, fresh LoRA adapters on all linears, and the step that trains them.
 * One thread.
 */
public final class TrainedStep implements AutoCloseable {
  /** Rank of the adapters. */
  public static final int RANK = 8;

  /** Their α. */
  public static final double ALPHA = 16;

  /** Of the weights and adapters. */
  public static final long SEED = 1;

  private static final double LEARNING_RATE = 1e-4;
  private static final int SHORT = 9;
  // A loss of order 10 or 100 through a few layers in fp32; in bf16 the weights are rounded, too.
  private static final double FP32_TOLERANCE = 2e-5;
  private static final double BF16_TOLERANCE = 2e-2;

  private final String name;
  private final Method method;
  private final ModelConfig config;
  private final Backend backend;
  private final Model model;
  private final List<StepSequence> sequences;
  private final Step step;
  private int done;

  /** Takes all memory. */
  public TrainedStep(String size, Dtype storage, String method, int pairs, int length) {
    this.name = method;
    this.method = Models.method(method);
    this.config = Models.config(size);
    this.backend = Backend.open("cpu");
    this.model = Model.load(new Ops(backend, storage), config, new RandomWeights(config, SEED));
    model.addLora(LoraConfig.all(RANK, ALPHA), SEED);
    this.sequences = Models.dense(this.method, config.vocabularySize(), pairs, length);
    this.step = step(sequences);
  }

  /** A step for other sequences on the same model; the caller closes it. */
  private Step step(List<StepSequence> of) {
    TrainSettings settings = settings();
    int largest = StepSizing.largestPiece(method, settings, null, List.of(of));
    return new Step(model, method, settings, null, largest);
  }

  /** AdamW at a rate at which no method strays. */
  public static TrainSettings settings() {
    return TrainSettings.of(1_000_000, LEARNING_RATE, Schedule.CONSTANT, 0);
  }

  /** The model, with its adapters. */
  public Model model() {
    return model;
  }

  /** What every step is made of. */
  public List<StepSequence> sequences() {
    return sequences;
  }

  /** One step, from the batch to the update. */
  public StepReport run() {
    return step.run(done++, sequences, LEARNING_RATE);
  }

  /** The objective and its gradients, without an update. */
  public double loss() {
    return step.gradients(sequences).loss();
  }

  /**
   * The loss of a short step is that of plain arithmetic; the whole step repeats to the bit, and
   * its update lowers the loss.
   */
  public void check() {
    boolean fp32 = model.ops().dtype() == Dtype.F32;
    List<StepSequence> few = Models.dense(method, config.vocabularySize(), 1, SHORT);
    double expected = PlainLoss.of(name, facts(few));
    try (Step small = step(few)) {
      double actual = small.gradients(few).loss();
      Check.near(name + "'s loss", actual, expected, fp32 ? FP32_TOLERANCE : BF16_TOLERANCE);
    }
    double before = loss();
    Check.that("a step repeats to the bit", Double.compare(before, loss()) == 0);
    Check.that("a step is applied", run().applied());
    double after = loss();
    Check.that("an update lowers the loss: " + before + " to " + after, after < before);
  }

  private List<PlainLoss.Facts> facts(List<StepSequence> of) {
    PlainLlama plain = new PlainLlama(config, new RandomWeights(config, SEED));
    List<PlainLoss.Facts> facts = new ArrayList<>();
    for (StepSequence s : of) {
      Use use = method.uses().stream().filter(u -> u.role() == s.role()).findFirst().orElseThrow();
      int first = use.positions() == Positions.ALL ? 1 : s.tokens().answerStart();
      int[] ids = s.tokens().ids();
      double[][] logits = plain.logits(ids);
      double[] nll = new double[ids.length - first];
      double[] uniformKl = new double[nll.length];
      double sum = 0;
      for (int row = 0; row < nll.length; row++) {
        double[] z = logits[first - 1 + row];
        double total = 0;
        double mean = 0;
        for (double logit : z) {
          total += StrictMath.exp(logit);
          mean += logit / z.length;
        }
        nll[row] = StrictMath.log(total) - z[ids[first + row]];
        uniformKl[row] = StrictMath.log(total) - mean - StrictMath.log(z.length);
        sum += nll[row];
      }
      // Fresh adapters change nothing: the reference says what the model says.
      facts.add(
          new PlainLoss.Facts(s.role(), s.pair(), nll, uniformKl, new double[nll.length], sum));
    }
    return facts;
  }

  @Override
  public void close() {
    step.close();
    model.close();
    backend.close();
  }
}
