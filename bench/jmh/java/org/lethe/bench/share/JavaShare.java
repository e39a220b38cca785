package org.lethe.bench.share;

import com.fasterxml.jackson.databind.node.ObjectNode;
import java.nio.file.Path;
import java.util.List;
import java.util.Locale;
import java.util.concurrent.Callable;
import org.lethe.bench.Machine;
import org.lethe.bench.jmh.Check;
import org.lethe.bench.jmh.Models;
import org.lethe.bench.jmh.ResultFile;
import org.lethe.bench.jmh.Texts;
import org.lethe.bench.jmh.TrainedStep;
import org.lethe.data.Pairing;
import org.lethe.data.Refusals;
import org.lethe.data.corpus.BpeTrainer;
import org.lethe.kernels.Backend;
import org.lethe.kernels.Dtype;
import org.lethe.kernels.Ops;
import org.lethe.method.Method;
import org.lethe.model.LoraConfig;
import org.lethe.model.Model;
import org.lethe.model.ModelConfig;
import org.lethe.model.RandomWeights;
import org.lethe.train.Schedule;
import org.lethe.train.StepReport;
import org.lethe.train.TrainSettings;
import org.lethe.train.Trainer;
import org.lethe.train.Turns;
import org.lethe.train.UnlearnBatches;
import picocli.CommandLine;
import picocli.CommandLine.Command;
import picocli.CommandLine.Option;

/**
 * How much of a training step is spent outside native code: wall time of the training thread less
 * the time that {@link NativeClock} saw within native calls. Garbage collection, compilation that
 * the thread waits for, and the clocks themselves count as Java's.
 */
@Command(name = "java-share", mixinStandardHelpOptions = true)
public final class JavaShare implements Callable<Integer> {
  private static final int PAIRS = 8;
  private static final int LENGTH = 128;
  private static final int PEOPLE = 20;
  // Makes rows of some 120 tokens of the corpus's own tokenizer.
  private static final int ANSWERS = 6;
  private static final int CLOCK_READS = 1_000_000;

  @Option(names = "--size", defaultValue = "45M")
  String size;

  @Option(names = "--storage", defaultValue = "F32,BF16", split = ",")
  List<Dtype> storages;

  @Option(names = "--method", defaultValue = "ME+GD,NPO+KL", split = ",")
  List<String> methods;

  @Option(names = "--steps", defaultValue = "30")
  int steps;

  @Option(names = "--warmup", defaultValue = "5")
  int warmup;

  @Option(names = "--results", description = "Folder for JSON and table.")
  Path results;

  @Option(names = "--commit", defaultValue = "unknown")
  String commit;

  /** Exits 0, or 1 when a result is wrong. */
  public static void main(String[] args) {
    System.exit(new CommandLine(new JavaShare()).execute(args));
  }

  @Override
  public Integer call() {
    ResultFile file = results == null ? null : ResultFile.open(results);
    for (Dtype storage : storages) {
      for (String method : methods) {
        ObjectNode entry = measure(storage, method);
        System.out.println(entry);
        if (file != null) {
          file.put("java_share", entry);
          file.write();
        }
      }
    }
    return 0;
  }

  private ObjectNode measure(Dtype storage, String name) {
    try (TrainedStep checked = new TrainedStep(size, storage, name, PAIRS, LENGTH)) {
      checked.check();
    }
    ModelConfig config = Models.config(size);
    Method method = Models.method(name);
    int vocabulary = Math.min(BpeTrainer.DEFAULT_VOCABULARY, config.vocabularySize());
    try (Texts texts = new Texts(PEOPLE, vocabulary, config.contextLength());
        Backend backend = Backend.open("cpu");
        Model model =
            Model.load(
                new Ops(backend, storage), config, new RandomWeights(config, TrainedStep.SEED))) {
      model.addLora(LoraConfig.all(TrainedStep.RANK, TrainedStep.ALPHA), TrainedStep.SEED);
      UnlearnBatches batches =
          new UnlearnBatches(
              method,
              Texts.longer(texts.forget(), ANSWERS),
              Texts.longer(texts.retain(), ANSWERS),
              Refusals.lines(),
              texts.encoder(),
              PAIRS,
              Pairing.Kind.FRESH,
              Turns.JOINT,
              1);
      try (Trainer trainer = new Trainer(model, method, settings(), batches, null)) {
        return measure(trainer, storage, name);
      }
    }
  }

  private TrainSettings settings() {
    return TrainSettings.of(steps + warmup, 1e-4, Schedule.COSINE, 1);
  }

  private ObjectNode measure(Trainer trainer, Dtype storage, String name) {
    for (int i = 0; i < warmup; i++) {
      trainer.next();
    }
    double[] wall = new double[steps];
    double[] java = new double[steps];
    double[] share = new double[steps];
    long calls = 0;
    long tokens = 0;
    Machine before = Machine.now();
    for (int i = 0; i < steps; i++) {
      NativeClock.start();
      long start = System.nanoTime();
      StepReport report = trainer.next();
      double taken = System.nanoTime() - start;
      Check.that("a step is applied", report.applied());
      wall[i] = taken / 1e6;
      java[i] = (taken - NativeClock.nanos()) / 1e6;
      share[i] = java[i] / wall[i];
      calls = NativeClock.calls();
      tokens += report.tokens();
    }
    double others = Machine.now().othersSince(before);
    ObjectNode entry = ResultFile.entry();
    entry.put("benchmark", "JavaShare");
    entry
        .putObject("parameters")
        .put("size", size)
        .put("storage", storage.name())
        .put("method", name);
    entry.put("steps", steps);
    entry.put("step_ms", mean(wall));
    entry.put("java_ms", mean(java));
    entry.put("java_share", mean(share));
    entry.put("java_share_error", interval(share));
    entry.put("tokens", Math.round((double) tokens / steps));
    entry.put("native_calls", calls);
    entry.put("clock_ms", clockNanos() * 2 * calls / 1e6);
    entry.put("others", others);
    entry.put("commit", commit);
    entry.put("command", "bench/jmh/run JavaShare");
    Check.that(
        String.format(Locale.ROOT, "Java's share %.6f lies within 0 and 1", mean(share)),
        mean(share) > 0 && mean(share) < 1);
    Check.that("native calls were counted", calls > 0);
    return entry;
  }

  /** What reading the clock once costs, in nanoseconds. */
  private static double clockNanos() {
    long start = System.nanoTime();
    long last = start;
    for (int i = 0; i < CLOCK_READS; i++) {
      last = System.nanoTime();
    }
    return (double) (last - start) / CLOCK_READS;
  }

  private static double mean(double[] values) {
    double sum = 0;
    for (double value : values) {
      sum += value;
    }
    return sum / values.length;
  }

  /** Half of the 95 % interval of a mean, by the normal distribution. */
  private static double interval(double[] values) {
    double mean = mean(values);
    double squares = 0;
    for (double value : values) {
      squares += (value - mean) * (value - mean);
    }
    return 1.96 * Math.sqrt(squares / Math.max(1, values.length - 1) / values.length);
  }
}
