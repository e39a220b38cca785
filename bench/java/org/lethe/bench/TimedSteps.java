package org.lethe.bench;

import java.util.Arrays;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import org.lethe.kernels.Backend;
import org.lethe.kernels.Dtype;
import org.lethe.kernels.Ops;
import org.lethe.method.Method;
import org.lethe.model.BaseStorage;
import org.lethe.model.DeviceWeights;
import org.lethe.model.LoraConfig;
import org.lethe.model.Model;
import org.lethe.model.ModelConfig;
import org.lethe.model.WeightPlacement;
import org.lethe.run.Bench;
import org.lethe.run.GemmFloor;
import org.lethe.train.Graphs;
import org.lethe.train.MemorySettings;
import org.lethe.train.Schedule;
import org.lethe.train.Sharding;
import org.lethe.train.Step;
import org.lethe.train.StepReport;
import org.lethe.train.StepSequence;
import org.lethe.train.StepSizing;
import org.lethe.train.TrainSettings;

/**
 * LoRA steps of a model with random weights on one device, and what they came to.
 *
 * @param before the adapters' values, and {@code after} the steps
 * @param flops of one step's frozen products
 * @param used the most that was taken of the device, by other processes and the driver, too
 * @param launches of the last step, by kind
 */
record TimedSteps(
    String backend,
    double[] losses,
    double[] ms,
    float[] before,
    float[] after,
    int tokens,
    double flops,
    long allocated,
    long used,
    Map<String, Long> launches) {
  static final int STEPS = 10;
  private static final double LEARNING_RATE = 1e-3;
  private static final long SEED = 1;

  /**
   * What each step does: a method on pairs of rows.
   *
   * @param length of all rows; 0: as long as TOFU's are
   * @param budget bytes that the run keeps to; 0: all activations are kept
   */
  record Work(
      ModelConfig config,
      BaseStorage base,
      Method method,
      int pairs,
      int length,
      long budget,
      Graphs graphs) {
    Work captured() {
      return new Work(config, base, method, pairs, length, budget, Graphs.AUTO);
    }

    List<StepSequence> sequences() {
      return length == 0
          ? Rows.likeTofu(method, config.vocabularySize(), pairs)
          : Bench.sequences(method, config.vocabularySize(), pairs, length);
    }
  }

  /**
   * Makes them.
   *
   * @param seconds end after that many and two steps; negative: after that many steps
   */
  static TimedSteps on(String device, Work work, double seconds) {
    int threads = Runtime.getRuntime().availableProcessors();
    try (Backend backend = Backend.open(device, threads)) {
      Ops ops = new Ops(backend, Dtype.BF16);
      LoraConfig lora = LoraConfig.all(8, 16);
      ModelConfig config = work.config();
      DeviceWeights weights = new DeviceWeights(config, SEED);
      try (Model model =
          Model.load(ops, config, weights, WeightPlacement.of(work.base()), List.of(lora))) {
        model.addLora(lora, SEED);
        float[] before = model.lora().values();
        List<StepSequence> sequences = work.sequences();
        Clock clock = new Clock(backend);
        clock.run(model, work, sequences, seconds);
        return new TimedSteps(
            backend.description(),
            Arrays.copyOf(clock.losses, clock.done),
            Arrays.copyOf(clock.ms, clock.done),
            before,
            model.lora().values(),
            clock.tokens,
            GemmFloor.flops(config, work.method(), sequences, clock.shared),
            backend.allocatedBytes(),
            backend.memory().total() - clock.least,
            clock.launches);
      }
    }
  }

  /** The steps one by one, with what is read off after each. */
  private static final class Clock {
    private final Backend backend;
    private final double[] losses = new double[STEPS];
    private final double[] ms = new double[STEPS];
    private long least;
    private int done;
    private int tokens;
    private int shared;
    private Map<String, Long> launches = Map.of();

    Clock(Backend backend) {
      this.backend = backend;
      this.least = backend.memory().free();
    }

    void run(Model model, Work work, List<StepSequence> sequences, double seconds) {
      TrainSettings settings =
          TrainSettings.of(STEPS, LEARNING_RATE, Schedule.CONSTANT, 0).with(work.graphs());
      try (Step step = step(model, work, settings, List.of(sequences))) {
        double spent = 0;
        boolean more = true;
        while (done < STEPS && more) {
          one(step, sequences);
          spent += ms[done] / 1e3;
          done++;
          more = seconds < 0 ? done < -seconds : done < 2 || spent < seconds;
        }
      }
    }

    private static Step step(
        Model model, Work work, TrainSettings settings, List<List<StepSequence>> steps) {
      if (work.budget() == 0) {
        int largest = StepSizing.largestPiece(work.method(), settings, null, steps);
        return new Step(model, work.method(), settings, null, largest);
      }
      MemorySettings bounds = new MemorySettings(work.budget(), MemorySettings.Activations.AUTO);
      return StepSizing.fitted(
          model, work.method(), settings.with(bounds), null, steps, Sharding.none());
    }

    private void one(Step step, List<StepSequence> sequences) {
      boolean recorded = done == STEPS - 1 && !backend.isHost();
      if (recorded) {
        backend.recordLaunches(true);
      }
      long start = System.nanoTime();
      StepReport report = step.run(done, sequences, LEARNING_RATE);
      backend.synchronize();
      ms[done] = (System.nanoTime() - start) / 1e6;
      losses[done] = report.loss();
      tokens = report.tokens();
      shared = report.sharedTokens();
      if (recorded) {
        launches = counted(backend.launches());
        backend.recordLaunches(false);
      }
      least = Math.min(least, backend.memory().free());
    }
  }

  /** How many of each kind a list of launches has. */
  static Map<String, Long> counted(List<String> lines) {
    Map<String, Long> counts = new LinkedHashMap<>();
    for (String what : List.of("kernel", "gemm", "copy", "wait", "alloc", "graph")) {
      counts.put(what, lines.stream().filter(l -> l.contains("\"" + what + "\":")).count());
    }
    return counts;
  }
}
