package org.lethe.bench;

import com.fasterxml.jackson.core.JsonProcessingException;
import com.fasterxml.jackson.databind.ObjectMapper;
import com.sun.management.OperatingSystemMXBean;
import java.io.IOException;
import java.lang.management.ManagementFactory;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Arrays;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Locale;
import java.util.Map;
import java.util.concurrent.Callable;
import org.lethe.EnvironmentException;
import org.lethe.UserException;
import org.lethe.checkpoint.ModelDirectory;
import org.lethe.kernels.Backend;
import org.lethe.kernels.Dtype;
import org.lethe.kernels.Ops;
import org.lethe.method.Method;
import org.lethe.method.MethodConfig;
import org.lethe.method.Methods;
import org.lethe.method.Positions;
import org.lethe.model.DeviceWeights;
import org.lethe.model.LoraConfig;
import org.lethe.model.Model;
import org.lethe.model.ModelConfig;
import org.lethe.run.GemmFloor;
import org.lethe.run.Shapes;
import org.lethe.train.DeviceCosts;
import org.lethe.train.MemorySettings;
import org.lethe.train.ReferenceCache;
import org.lethe.train.Schedule;
import org.lethe.train.Sharding;
import org.lethe.train.Step;
import org.lethe.train.StepReport;
import org.lethe.train.StepSequence;
import org.lethe.train.StepSizing;
import org.lethe.train.TrainSettings;
import picocli.CommandLine;
import picocli.CommandLine.Command;
import picocli.CommandLine.Option;

/**
 * One unlearning step, timed on weights and rows given from outside: the counterpart of {@code
 * bench/peers/hf_peft_step.py}, with its coefficients, β, optimizer and keys. Prints one JSON line.
 */
@Command(name = "step-bench", mixinStandardHelpOptions = true)
public final class StepBench implements Callable<Integer> {
  // The peer's.
  private static final double BETA = 0.1;
  private static final double ME_COEFFICIENT = 0.1;
  static final double LEARNING_RATE = 1e-4;
  private static final long SEED = 1;
  private static final double WEIGHT_DECAY = 0.01;
  // Storage's own rounding allows a bf16 loss no closer look.
  private static final double FP32_TOLERANCE = 1e-4;
  private static final double BF16_TOLERANCE = 1e-2;

  @Option(names = "--model", description = "Hugging Face directory")
  Path model;

  @Option(
      names = "--shape",
      description = "in place of --model: random weights in the sizes that lethe plan knows")
  String shape;

  @Option(names = "--rows", required = true, description = "JSON of make_rows.py")
  Path rows;

  @Option(names = "--method", defaultValue = "ME+GD")
  String method;

  @Option(names = "--rank", defaultValue = "8")
  int rank;

  @Option(names = "--alpha", defaultValue = "16")
  double alpha;

  @Option(names = "--threads", defaultValue = "2")
  int threads;

  @Option(names = "--warmup", defaultValue = "3")
  int warmup;

  @Option(names = "--steps", defaultValue = "10", description = "0: the loss alone")
  int steps;

  @Option(names = "--dtype", defaultValue = "fp32", description = "fp32 or bf16")
  String dtype;

  @Option(names = "--me-positions", defaultValue = "answer", description = "answer or all")
  String mePositions;

  @Option(
      names = "--reference",
      defaultValue = "cache",
      description = "cache: sequence nll computed once; batch: in every step")
  String reference;

  @Option(names = "--tokens-per-micro-batch", defaultValue = "4096")
  int tokensPerMicroBatch;

  @Option(
      names = "--memory-budget",
      defaultValue = "0",
      description = "megabytes that the process may take: pieces get smaller; 0: no bound")
  long memoryBudget;

  @Option(
      names = "--expected-loss",
      description = "loss of the first step; nothing is timed unless it is met")
  Double expectedLoss;

  /** Exits 0, 1 when the loss is not the expected one, 2 for bad input. */
  public static void main(String[] args) {
    CommandLine line = new CommandLine(new StepBench());
    line.setExecutionExceptionHandler(
        (e, command, parsed) -> {
          if (!(e instanceof UserException)) {
            throw e;
          }
          command.getErr().println(e.getMessage());
          return 2;
        });
    System.exit(line.execute(args));
  }

  @Override
  public Integer call() {
    Dtype storage = dtype.equals("bf16") ? Dtype.BF16 : Dtype.F32;
    Method objective = objective(method, Positions.valueOf(mePositions.toUpperCase(Locale.ROOT)));
    List<List<StepSequence>> batches = Rows.read(rows, objective);
    int context =
        batches.stream()
            .flatMap(List::stream)
            .mapToInt(s -> s.tokens().ids().length)
            .max()
            .orElseThrow();
    TrainSettings settings =
        settings(warmup + steps, tokensPerMicroBatch)
            .with(new MemorySettings(memoryBudget * 1_000_000, MemorySettings.Activations.AUTO));
    try (Backend backend = Backend.open("cpu", threads);
        Model loaded = load(new Ops(backend, storage), context)) {
      ReferenceCache cache = referenceCache(loaded, objective, batches);
      loaded.addLora(LoraConfig.all(rank, alpha), 0);
      try (Step step =
          StepSizing.fitted(loaded, objective, settings, cache, batches, Sharding.none())) {
        return time(loaded, objective, batches, step, storage);
      }
    }
  }

  private Model load(Ops ops, int context) {
    if ((shape == null) == (model == null)) {
      throw new UserException("give one of --model and --shape");
    }
    if (model != null) {
      return ModelDirectory.load(ops, model, context);
    }
    ModelConfig sizes = Shapes.of(shape).withContextLength(context);
    return Model.load(ops, sizes, new DeviceWeights(sizes, SEED));
  }

  private int time(
      Model loaded, Method objective, List<List<StepSequence>> batches, Step step, Dtype storage) {
    double loss = step.gradients(batches.get(0)).loss();
    double tolerance = storage == Dtype.BF16 ? BF16_TOLERANCE : FP32_TOLERANCE;
    if (expectedLoss != null
        && !(Math.abs(loss - expectedLoss) <= tolerance * Math.abs(expectedLoss))) {
      System.err.printf(
          Locale.ROOT,
          "the loss is %.8f, expected %.8f within %.0e; nothing was timed%n",
          loss,
          expectedLoss,
          tolerance);
      return 1;
    }
    double[] ms = new double[steps];
    long[] shared = new long[batches.size()];
    long processor = 0;
    for (int i = 0; steps > 0 && i < warmup + steps; i++) {
      List<StepSequence> batch = batches.get(i % batches.size());
      if (i == warmup) {
        processor = processorNanos();
      }
      long start = System.nanoTime();
      StepReport report = step.run(i, batch, LEARNING_RATE);
      double taken = (System.nanoTime() - start) / 1e6;
      shared[i % batches.size()] = report.sharedTokens();
      if (!report.applied()) {
        throw new UserException("step " + i + " was skipped: its gradient is not finite");
      }
      if (i >= warmup) {
        ms[i - warmup] = Math.round(taken * 100) / 100.0;
      }
    }
    double processorMs = Math.round((processorNanos() - processor) / 1e4 / steps) / 100.0;
    Map<String, Object> result = new LinkedHashMap<>();
    result.put("method", objective.name());
    result.put("dtype", dtype);
    result.put("loss_step0", loss);
    double peak = peakMegabytes();
    if (steps > 0) {
      putTimes(result, ms);
      result.put("cpu_ms", processorMs);
      double flops = 0;
      for (int i = 0; i < batches.size(); i++) {
        flops += GemmFloor.flops(loaded.config(), objective, batches.get(i), shared[i]);
      }
      flops /= batches.size();
      double rate = GemmFloor.rate(loaded.ops());
      result.put("gemm_gflop", Math.round(flops / 1e7) / 100.0);
      result.put("gemm_gflop_per_s", Math.round(rate / 1e9));
      result.put("gemm_only_ms", Math.round(flops / rate * 1e5) / 100.0);
      double share = flops / rate * 1e3 / (double) result.get("ms_median");
      result.put("gemm_share", Math.round(share * 1e3) / 1e3);
      double alone = GemmFloor.alone(loaded, objective, batches.get(0), (int) shared[0]);
      result.put("own_gemm_ms", Math.round(alone * 1e2) / 1e2);
      share = alone / (double) result.get("ms_median");
      result.put("own_gemm_share", Math.round(share * 1e3) / 1e3);
    }
    long tokens =
        batches.stream().flatMap(List::stream).mapToLong(s -> s.tokens().ids().length).sum();
    result.put("real_tokens", Math.round((double) tokens / batches.size()));
    result.put("shared_tokens", Math.round(Arrays.stream(shared).average().orElse(0)));
    result.put("peak_MB", peak);
    result.put("reference", ReferenceCache.isNeeded(objective) ? reference : "none");
    result.put("rank", rank);
    result.put("alpha", alpha);
    result.put("me_positions", mePositions);
    result.put("threads", threads);
    long planned = DeviceCosts.of(true).overheadBytes() + loaded.ops().backend().allocatedBytes();
    result.put("planned_MB", Math.round(planned / 1e5) / 10.0);
    result.put("budget_MB", memoryBudget);
    result.put("piece_tokens", step.fit().piece());
    result.put("recomputed_layers", step.fit().policy().recomputed());
    result.put("step_MB", Math.round(step.bytes() / 1e5) / 10.0);
    result.put("backend", loaded.ops().backend().description());
    result.put("java", System.getProperty("java.version"));
    try {
      System.out.println(new ObjectMapper().writeValueAsString(result));
    } catch (JsonProcessingException e) {
      throw new IllegalStateException("a map of numbers and strings is JSON", e);
    }
    return 0;
  }

  /** Processor time of all threads of this process. */
  static long processorNanos() {
    return ManagementFactory.getPlatformMXBean(OperatingSystemMXBean.class).getProcessCpuTime();
  }

  static void putTimes(Map<String, Object> result, double[] ms) {
    double[] sorted = ms.clone();
    Arrays.sort(sorted);
    int half = sorted.length / 2;
    double median = sorted.length % 2 == 1 ? sorted[half] : (sorted[half - 1] + sorted[half]) / 2;
    result.put("ms_median", median);
    result.put("ms_min", sorted[0]);
    result.put("ms_all", ms);
  }

  /**
   * A method with the peers' coefficients and β.
   *
   * @param ofEntropy the positions that ME looks at; KL looks at all
   */
  static Method objective(String method, Positions ofEntropy) {
    MethodConfig named = MethodConfig.of(method);
    boolean entropy = named.forget().equalsIgnoreCase("ME");
    boolean kl = named.retain().equalsIgnoreCase("KL");
    return Methods.create(
        named
            .withBeta(BETA)
            .withCoefficients(entropy ? ME_COEFFICIENT : 1, 1)
            .withPositions(
                entropy ? ofEntropy : Positions.ANSWER, kl ? Positions.ALL : Positions.ANSWER));
  }

  /** The peers' learning rate and decay, held constant. */
  static TrainSettings settings(int steps, int tokensPerMicroBatch) {
    TrainSettings d = TrainSettings.of(Math.max(1, steps), LEARNING_RATE, Schedule.CONSTANT, 0);
    return new TrainSettings(
        d.steps(),
        d.learningRate(),
        d.schedule(),
        d.warmupSteps(),
        d.beta1(),
        d.beta2(),
        d.eps(),
        WEIGHT_DECAY,
        d.maxGradientNorm(),
        tokensPerMicroBatch,
        d.onNonFinite());
  }

  private ReferenceCache referenceCache(
      Model loaded, Method objective, List<List<StepSequence>> batches) {
    if (!reference.equals("cache") || !ReferenceCache.isNeeded(objective)) {
      return null;
    }
    try {
      ReferenceCache cache = ReferenceCache.open(Files.createTempDirectory("lethe-bench"), loaded);
      cache.fill(loaded, objective, batches);
      return cache;
    } catch (IOException e) {
      throw new EnvironmentException("no temporary directory: " + e.getMessage(), e);
    }
  }

  /** VmHWM of this process: all of it, the JVM and loading included. */
  static double peakMegabytes() {
    try {
      for (String line :
          Files.readAllLines(Path.of("/proc/self/status"), StandardCharsets.US_ASCII)) {
        if (line.startsWith("VmHWM")) {
          return Math.round(Long.parseLong(line.replaceAll("\\D", "")) * 1024 / 1e5) / 10.0;
        }
      }
    } catch (IOException e) {
      throw new EnvironmentException("/proc/self/status cannot be read: " + e.getMessage(), e);
    }
    throw new EnvironmentException("/proc/self/status has no VmHWM");
  }
}
