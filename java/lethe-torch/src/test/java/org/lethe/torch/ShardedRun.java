package org.lethe.torch;

import java.io.IOException;
import java.nio.ByteBuffer;
import java.nio.file.Files;
import java.nio.file.Path;
import java.time.Duration;
import java.util.ArrayList;
import java.util.List;
import org.lethe.kernels.Backend;
import org.lethe.kernels.Dtype;
import org.lethe.method.Method;
import org.lethe.method.MethodConfig;
import org.lethe.method.Methods;
import org.lethe.model.LoraTargets;
import org.lethe.model.Model;
import org.lethe.train.Collective;
import org.lethe.train.Schedule;
import org.lethe.train.Sharding;
import org.lethe.train.Step;
import org.lethe.train.StepReport;
import org.lethe.train.StepSequence;
import org.lethe.train.StepSizing;
import org.lethe.train.TrainSettings;

/** A short training run that one process or several share out. */
final class ShardedRun {
  private static final int STEPS = 3;
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

  /** Rank {@code args[1]} of {@code args[2]}, which meet at {@code args[0]}; to a file. */
  public static void main(String[] args) throws IOException {
    GlooCollective.Place place =
        GlooCollective.Place.local(
            Integer.parseInt(args[1]), Integer.parseInt(args[2]), Duration.ofSeconds(60));
    try (Collective collective = GlooCollective.overFile(Path.of(args[0]), place)) {
      Files.write(Path.of(args[4]), bits(args[3], Sharding.over(collective)));
    }
  }

  /** The bits of every loss and norm on the way, and of the adapters at the end. */
  static byte[] bits(String name, Sharding sharding) {
    Method method = Methods.create(MethodConfig.of(name));
    List<List<StepSequence>> steps = new ArrayList<>();
    for (int i = 0; i < STEPS; i++) {
      steps.add(TinyLlama.step(method, 100 + i));
    }
    try (Backend backend = Backend.open("cpu", 2);
        Model model = TinyLlama.model(backend, false, Dtype.F32)) {
      TinyLlama.adapt(model, LoraTargets.ALL, 3);
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
}
