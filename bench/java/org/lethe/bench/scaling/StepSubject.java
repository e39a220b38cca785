package org.lethe.bench.scaling;

import java.util.List;
import org.lethe.EnvironmentException;
import org.lethe.InternalFaultException;
import org.lethe.kernels.Dtype;
import org.lethe.kernels.Ops;
import org.lethe.method.Method;
import org.lethe.method.MethodConfig;
import org.lethe.method.Methods;
import org.lethe.model.AdapterRoom;
import org.lethe.model.Decoder;
import org.lethe.model.DeviceWeights;
import org.lethe.model.Head;
import org.lethe.model.LoraConfig;
import org.lethe.model.Model;
import org.lethe.model.ModelConfig;
import org.lethe.model.SpareRule;
import org.lethe.model.WeightPlacement;
import org.lethe.run.Bench;
import org.lethe.run.GemmFloor;
import org.lethe.train.Schedule;
import org.lethe.train.Step;
import org.lethe.train.StepSequence;
import org.lethe.train.StepSizing;
import org.lethe.train.TrainSettings;

/** A whole ME+GD step of adapters on all linears of a Llama with random weights. */
final class StepSubject implements Subject {
  private static final String METHOD = "ME+GD";
  private static final double LEARNING_RATE = 1e-3;
  private static final long SEED = 1;

  @Override
  public String name() {
    return "step";
  }

  @Override
  public String shape(Sizes s) {
    return METHOD + ", Llama of " + s.model().layers() + " layers, d " + s.model().hiddenSize();
  }

  @Override
  public double flops(Sizes s) {
    ModelConfig c = s.config();
    double t = s.tokens();
    double d = c.hiddenSize();
    double f = c.feedForwardSize();
    double ends = 4 * d + 3 * d + 2 * c.queryWidth() + 2 * c.kvWidth() + 3 * f;
    double adapters = 6 * t * s.rank() * ends * c.layers();
    double attention = AttentionSubject.flops(s, c.queryWidth()) * c.layers();
    return GemmFloor.flops(c, method(), sequences(s), 0) + adapters + attention;
  }

  /** The model alone; what a step takes beside it is known when it is there. */
  @Override
  public long bytes(Ops ops, Sizes s) {
    LoraConfig lora = LoraConfig.all(s.rank(), 2.0 * s.rank());
    AdapterRoom room = AdapterRoom.of(SpareRule.of(ops), s.config(), List.of(lora));
    return Model.bytes(s.config(), ops.dtype(), WeightPlacement.PLAIN, room);
  }

  private static Method method() {
    return Methods.create(MethodConfig.of(METHOD));
  }

  private static List<StepSequence> sequences(Sizes s) {
    return Bench.sequences(
        method(), s.vocabulary(), Math.max(1, s.tokens() / s.length() / 2), s.length());
  }

  @Override
  public Prepared prepare(Ops ops, Sizes s) {
    return new Whole(ops, s);
  }

  private static final class Whole implements Prepared {
    private final Model model;
    private final Step step;
    private final List<StepSequence> sequences;
    private int done;
    private double first;
    private double last;

    Whole(Ops ops, Sizes s) {
      ModelConfig config = s.config();
      TrainSettings settings = TrainSettings.of(1000, LEARNING_RATE, Schedule.CONSTANT, 0);
      sequences = sequences(s);
      LoraConfig lora = LoraConfig.all(s.rank(), 2.0 * s.rank());
      DeviceWeights weights = new DeviceWeights(config, SEED);
      model = Model.load(ops, config, weights, WeightPlacement.PLAIN, List.of(lora));
      Step made = null;
      try {
        model.addLora(lora, SEED);
        int largest = StepSizing.largestPiece(method(), settings, null, List.of(sequences));
        long needed = Decoder.bytes(model, largest, true) + Head.bytes(model, largest, largest);
        if (needed > ops.backend().memory().free()) {
          throw new EnvironmentException(
              "a step of it takes " + needed / 1_000_000 + " MB more than there is; lower a size");
        }
        made = new Step(model, method(), settings, null, largest);
      } finally {
        if (made == null) {
          model.close();
        }
      }
      step = made;
    }

    @Override
    public void call() {
      last = step.run(done, sequences, LEARNING_RATE).loss();
      first = done == 0 ? last : first;
      done++;
    }

    /** Steps on the same rows must lower their loss; one gradient alone proves nothing. */
    @Override
    public void check() {
      if (done < 2) {
        call();
      }
      if (!(last < first)) {
        throw new InternalFaultException(
            "scaling: the loss is "
                + last
                + " after "
                + done
                + " steps, "
                + first
                + " before them");
      }
    }

    @Override
    public void close() {
      step.close();
      model.close();
    }
  }

  /** The dtype that a device's results are told in. */
  static String storage(Dtype dtype) {
    return dtype == Dtype.BF16 ? "bf16" : "fp32";
  }
}
