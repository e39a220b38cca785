package org.lethe.cuda;

import java.nio.ByteBuffer;
import java.util.ArrayList;
import java.util.List;
import java.util.Random;
import org.lethe.data.TokenSequence;
import org.lethe.kernels.Backend;
import org.lethe.kernels.Dtype;
import org.lethe.kernels.Ops;
import org.lethe.method.Method;
import org.lethe.method.MethodConfig;
import org.lethe.method.Methods;
import org.lethe.method.Use;
import org.lethe.model.Lora;
import org.lethe.model.LoraConfig;
import org.lethe.model.Model;
import org.lethe.model.ModelConfig;
import org.lethe.model.RandomWeights;
import org.lethe.train.Schedule;
import org.lethe.train.Sharding;
import org.lethe.train.Step;
import org.lethe.train.StepReport;
import org.lethe.train.StepSequence;
import org.lethe.train.StepSizing;
import org.lethe.train.TrainSettings;

/** A short training run of a small Llama that one process or several share out. */
final class ShardedRun {
  private static final int STEPS = 3;
  private static final int VOCABULARY = 131;
  private static final int[] LENGTHS = {13, 40, 7, 22, 2, 31};
  private static final TrainSettings SETTINGS =
      new TrainSettings(
          STEPS,
          3e-3,
          Schedule.CONSTANT,
          0,
          0.9,
          0.999,
          1e-8,
          0.01,
          0.5,
          64,
          TrainSettings.OnNonFinite.STOP);

  private ShardedRun() {}

  /** The bits of every loss and norm on the way, and of the adapters at the end. */
  static byte[] bits(String name, Sharding sharding) {
    Method method = Methods.create(MethodConfig.of(name));
    List<List<StepSequence>> steps = new ArrayList<>();
    for (int i = 0; i < STEPS; i++) {
      steps.add(step(method, 100 + i));
    }
    ModelConfig config =
        ModelConfig.llama(
            new ModelConfig.Sizes(VOCABULARY, 40, 2, 6, 2, 8, 72, 48), 1e-5f, 10000.0, false);
    try (Backend backend = Backend.open("cpu", 2);
        Model model =
            Model.load(new Ops(backend, Dtype.F32), config, new RandomWeights(config, 7))) {
      adapt(model);
      int largest = StepSizing.largestPiece(method, SETTINGS, null, steps);
      float[] adapters = model.lora().values();
      ByteBuffer out = ByteBuffer.allocate(STEPS * 16 + adapters.length * Float.BYTES);
      try (Step step = new Step(model, method, SETTINGS, null, largest, sharding)) {
        for (int i = 0; i < STEPS; i++) {
          StepReport report = step.run(i, steps.get(i), SETTINGS.learningRate());
          out.putDouble(report.loss()).putDouble(report.gradientNorm());
        }
      }
      adapters = model.lora().values();
      out.asFloatBuffer().put(adapters);
      return out.array();
    }
  }

  /** Adapters whose B, too, is not zero. */
  private static void adapt(Model model) {
    LoraConfig lora = LoraConfig.all(4, 8);
    Random random = new Random(3);
    float[] values = new float[Math.toIntExact(Lora.layout(model.config(), lora).elements())];
    for (int i = 0; i < values.length; i++) {
      values[i] = (float) (0.1 * random.nextGaussian());
    }
    model.addLora(lora, values, true);
  }

  private static List<StepSequence> step(Method method, long seed) {
    Random random = new Random(seed);
    List<StepSequence> step = new ArrayList<>();
    for (int pair = 0; pair < LENGTHS.length; pair++) {
      for (Use use : method.uses()) {
        int length = LENGTHS[step.size() * 5 % LENGTHS.length];
        int[] ids = random.ints(length, 0, VOCABULARY).toArray();
        TokenSequence tokens = new TokenSequence(ids, 1 + ids.length / 3);
        step.add(new StepSequence(use.role(), pair, tokens, "row " + pair));
      }
    }
    return step;
  }
}
