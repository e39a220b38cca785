package org.lethe.bench;

import com.fasterxml.jackson.core.JsonProcessingException;
import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import java.io.IOException;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Locale;
import java.util.Map;
import java.util.concurrent.Callable;
import org.lethe.UserException;
import org.lethe.kernels.Backend;
import org.lethe.kernels.Dtype;
import org.lethe.kernels.Ops;
import org.lethe.method.Method;
import org.lethe.method.MethodConfig;
import org.lethe.method.Methods;
import org.lethe.model.BaseStorage;
import org.lethe.model.DeviceWeights;
import org.lethe.model.LoraConfig;
import org.lethe.model.Model;
import org.lethe.model.ModelConfig;
import org.lethe.model.WeightPlacement;
import org.lethe.run.Bench;
import org.lethe.run.GemmFloor;
import org.lethe.train.Graphs;
import org.lethe.train.Schedule;
import org.lethe.train.Step;
import org.lethe.train.StepReport;
import org.lethe.train.StepSequence;
import org.lethe.train.TrainSettings;
import picocli.CommandLine;
import picocli.CommandLine.Command;
import picocli.CommandLine.Option;

/**
 * LoRA steps on models of the sizes of Llama 3.2 1B and Llama 2 7B with random weights, made on the
 * device: the small one beside the CPU, the large one by itself. Writes PREFIX.json and PREFIX.md;
 * exits with 1 when a number is not what it must be.
 */
@Command(name = "device-steps", mixinStandardHelpOptions = true)
public final class DeviceSteps implements Callable<Integer> {
  private static final int STEPS = 10;
  private static final int WARMUP = 2;
  private static final double LEARNING_RATE = 1e-3;
  private static final long SEED = 1;
  private static final double CPU_SECONDS = 60;
  private static final List<String> METHODS = List.of("ME+GD", "NPO+KL");

  @Option(names = "--device", required = true)
  String device;

  @Option(names = "--prefix", required = true)
  Path prefix;

  @Option(names = "--commit", defaultValue = "unknown")
  String commit;

  @Option(names = "--date", defaultValue = "unknown")
  String date;

  @Option(names = "--command", defaultValue = "DeviceSteps")
  String command;

  @Option(names = "--demo", defaultValue = "", description = "What the demo came to: JSON")
  String demo;

  @Option(names = "--graphs", defaultValue = "NEVER", description = "never, auto or always")
  Graphs graphs;

  @Option(names = "--small", description = "Tiny models: that it runs, no figures")
  boolean small;

  /** What ten steps of a method came to on one device. */
  private record Outcome(
      String backend,
      double[] losses,
      double[] ms,
      float[] before,
      float[] after,
      int tokens,
      double flops,
      long allocated,
      long used,
      Map<String, Long> launches) {}

  private boolean failed;
  private final StringBuilder table = new StringBuilder();

  /** Exits 0, 1 when something is wrong, 2 for bad input. */
  public static void main(String[] args) {
    System.exit(new CommandLine(new DeviceSteps()).execute(args));
  }

  @Override
  public Integer call() throws IOException {
    ModelConfig one = model(small ? "tiny-tied" : "1B");
    ModelConfig seven = model(small ? "tiny" : "7B");
    BaseStorage plain = BaseStorage.PLAIN;
    List<Map<String, Object>> results = new ArrayList<>();
    for (String name : METHODS) {
      Method method = Methods.create(MethodConfig.of(name));
      results.add(beside("Llama 3.2 1B", one, method, small ? 2 : 4, small ? 12 : 48));
      results.add(alone("Llama 2 7B", seven, plain, method, small ? 2 : 8, small ? 12 : 256));
    }
    // What a small GPU can hold: 1024 tokens a step.
    Method method = Methods.create(MethodConfig.of(METHODS.get(0)));
    BaseStorage codes = BaseStorage.NF4_DOUBLE;
    results.add(alone("Llama 2 7B", seven, codes, method, 2, small ? 12 : 256));
    write(results);
    return failed ? 1 : 0;
  }

  /** Sizes by name: those of Llama 3.2 1B and Llama 2 7B, and two tiny ones. */
  static ModelConfig model(String name) {
    return switch (name) {
      case "1B" -> llama(128256, 2048, 16, 32, 8, 64, 8192, true);
      case "7B" -> llama(32000, 4096, 32, 32, 32, 128, 11008, false);
      case "tiny" -> llama(1003, 96, 2, 4, 4, 24, 160, false);
      case "tiny-tied" -> llama(1003, 64, 2, 4, 2, 16, 96, true);
      default ->
          throw new UserException("no model is called " + name + "; 1B, 7B, tiny, tiny-tied are");
    };
  }

  private static ModelConfig llama(
      int v, int d, int layers, int heads, int kv, int headDim, int f, boolean tied) {
    return ModelConfig.llama(
        new ModelConfig.Sizes(v, d, layers, heads, kv, headDim, f, 2048),
        1e-5f,
        tied ? 500000 : 10000,
        tied);
  }

  /** The same steps on the CPU, as many as it makes in its time; losses and movement compared. */
  private Map<String, Object> beside(
      String name, ModelConfig config, Method method, int pairs, int length) {
    // A slow CPU makes fewer steps; then the device makes as few once more, to be compared.
    BaseStorage base = BaseStorage.PLAIN;
    Outcome cpu = steps("cpu", config, base, method, pairs, length, CPU_SECONDS);
    Outcome own = steps(device, config, base, method, pairs, length, Double.MAX_VALUE);
    int common = cpu.losses().length;
    Outcome same =
        common == STEPS ? own : steps(device, config, base, method, pairs, length, -common);
    Map<String, Object> result = facts(name, base, method, own);
    double noise = noise(config);
    double worst = 0;
    for (int i = 0; i < common; i++) {
      // The loss is a mean of what logits of deviation sigma say; their rounding adds up over the
      // steps at worst.
      worst =
          Math.max(
              worst,
              Math.abs(same.losses()[i] - cpu.losses()[i]) / (lossBound(config, noise) * (i + 1)));
    }
    double movement = distance(same.after(), cpu.after()) / distance(cpu.after(), cpu.before());
    // AdamW's early steps go by the gradient's sign. Two gradients with independent errors of
    // `noise` of their size differ in sign where their angle's share of pi says; each costs twice
    // the step. Twice that, since gradients are not normal.
    double movementBound = 2 * Math.sqrt(4 * Math.sqrt(2) * noise / Math.PI);
    result.put("cpu_steps", common);
    result.put("cpu_losses", cpu.losses());
    result.put("loss_error_of_bound", worst);
    result.put("movement_error", movement);
    result.put("movement_bound", movementBound);
    boolean good =
        common >= 2
            && worst <= 1
            && movement <= movementBound
            && distance(cpu.after(), cpu.before()) > 0
            && finite(own.losses());
    judge(
        result,
        own,
        good,
        String.format(
            Locale.ROOT,
            "%d steps as the CPU's: losses %.2f of their bound, adapters moved %.3f apart (bound"
                + " %.3f)",
            common,
            worst,
            movement,
            movementBound));
    return result;
  }

  private Map<String, Object> alone(
      String name, ModelConfig config, BaseStorage base, Method method, int pairs, int length) {
    Outcome own = steps(device, config, base, method, pairs, length, Double.MAX_VALUE);
    Map<String, Object> result = facts(name, base, method, own);
    double[] losses = own.losses();
    boolean good = finite(losses) && losses[losses.length - 1] < losses[0];
    judge(
        result,
        own,
        good,
        String.format(Locale.ROOT, "loss %.4f to %.4f", losses[0], losses[losses.length - 1]));
    return result;
  }

  /**
   * @param seconds end after that many and two steps; negative: after that many steps
   */
  private Outcome steps(
      String where,
      ModelConfig config,
      BaseStorage base,
      Method method,
      int pairs,
      int length,
      double seconds) {
    int threads = Runtime.getRuntime().availableProcessors();
    try (Backend backend = Backend.open(where, threads)) {
      long free = backend.memory().free();
      long least = free;
      Ops ops = new Ops(backend, Dtype.BF16);
      LoraConfig lora = LoraConfig.all(8, 16);
      DeviceWeights weights = new DeviceWeights(config, SEED);
      try (Model model =
          Model.load(ops, config, weights, WeightPlacement.of(base), List.of(lora))) {
        model.addLora(lora, SEED);
        float[] before = model.lora().values();
        List<StepSequence> sequences =
            Bench.sequences(method, config.vocabularySize(), pairs, length);
        TrainSettings settings =
            TrainSettings.of(STEPS, LEARNING_RATE, Schedule.CONSTANT, 0).with(graphs);
        int largest = Step.largestPiece(method, settings, null, List.of(sequences));
        double[] losses = new double[STEPS];
        double[] ms = new double[STEPS];
        int done = 0;
        int tokens = 0;
        int shared = 0;
        Map<String, Long> launches = Map.of();
        try (Step step = new Step(model, method, settings, null, largest)) {
          double spent = 0;
          boolean more = true;
          while (done < STEPS && more) {
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
            spent += ms[done] / 1e3;
            done++;
            more = seconds < 0 ? done < -seconds : done < 2 || spent < seconds;
          }
        }
        return new Outcome(
            backend.description(),
            Arrays.copyOf(losses, done),
            Arrays.copyOf(ms, done),
            before,
            model.lora().values(),
            tokens,
            GemmFloor.flops(config, method, sequences, shared),
            backend.allocatedBytes(),
            free - least,
            launches);
      }
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

  private static Map<String, Object> facts(
      String name, BaseStorage base, Method method, Outcome own) {
    double[] timed =
        Arrays.copyOfRange(own.ms(), Math.min(WARMUP, own.ms().length - 1), own.ms().length);
    Arrays.sort(timed);
    double median = timed[timed.length / 2];
    Map<String, Object> facts = new LinkedHashMap<>();
    facts.put("model", name + "'s sizes, random weights, bf16, LoRA r=8 on all linears");
    facts.put("base", base.name().toLowerCase(Locale.ROOT));
    facts.put("method", method.name());
    facts.put("tokens", own.tokens());
    facts.put("losses", own.losses());
    facts.put("ms_median", median);
    facts.put("ms_all", own.ms());
    facts.put("tokens_per_s", own.tokens() / median * 1e3);
    facts.put("gemm_tflop_per_s", own.flops() / median / 1e9);
    facts.put("allocated_bytes", own.allocated());
    facts.put("device_bytes_at_most", own.used());
    facts.put("launches_of_a_step", own.launches());
    return facts;
  }

  private void judge(Map<String, Object> result, Outcome own, boolean good, String words) {
    result.put("status", good ? "passed" : "failed");
    failed |= !good;
    String line =
        String.format(
            Locale.ROOT,
            "| %s | %s | %s | %d | %.1f | %.0f | %.1f | %.2f | %s | %s: %s |%n",
            ((String) result.get("model")).replaceFirst("'s.*", ""),
            result.get("base"),
            result.get("method"),
            own.tokens(),
            (double) result.get("ms_median"),
            (double) result.get("tokens_per_s"),
            (double) result.get("gemm_tflop_per_s"),
            own.used() / 1e9,
            own.launches(),
            good ? "passed" : "FAILED",
            words);
    table.append(line);
    System.out.print(line);
  }

  /**
   * What rounding to bf16 makes of a sum that goes through all layers, relative to its size: some
   * six roundings a layer of half a unit each, independent of each other, in both passes.
   */
  private static double noise(ModelConfig config) {
    return 0x1p-9 * Math.sqrt(12.0 * config.layers());
  }

  /**
   * How far a loss may be off: the logits of weights of deviation 0.02 have one of 0.02 sqrt(d),
   * and what `noise` makes of one logit bounds a mean over many rows.
   */
  private static double lossBound(ModelConfig config, double noise) {
    return noise * Math.max(1, 0.02 * Math.sqrt(config.hiddenSize()));
  }

  private static boolean finite(double[] losses) {
    return Arrays.stream(losses).allMatch(Double::isFinite);
  }

  private static double distance(float[] x, float[] y) {
    double sum = 0;
    for (int i = 0; i < x.length; i++) {
      double difference = (double) x[i] - y[i];
      sum += difference * difference;
    }
    return Math.sqrt(sum);
  }

  private void write(List<Map<String, Object>> results) throws IOException {
    ObjectMapper json = new ObjectMapper();
    Map<String, Object> all = new LinkedHashMap<>();
    all.put("what", "e2e");
    try (Backend backend = Backend.open(device, 1)) {
      all.put("device", json.readTree(backend.description()));
    }
    all.put("commit", commit);
    all.put("date", date);
    all.put("command", command);
    all.put("demo", demo(json));
    all.put("results", results);
    Files.writeString(
        Path.of(prefix + ".json"),
        json.writerWithDefaultPrettyPrinter().writeValueAsString(all) + "\n",
        StandardCharsets.UTF_8);
    Files.writeString(
        Path.of(prefix + ".md"),
        "# Steps"
            + (small ? ", tiny models: no figures" : "")
            + "\n\nDevice "
            + all.get("device")
            + ". Commit "
            + commit
            + ", "
            + date
            + ", `"
            + command
            + "`.\n\n"
            + "TFLOP/s: the step's frozen matrix products over its time; memory: the most"
            + " that this process took of the device; launches: of one step.\n"
            + "The demo, judged: "
            + all.get("demo")
            + "\n\n"
            + "| model | base | method | tokens | ms | tokens/s | TFLOP/s | GB | launches | verdict"
            + " |\n"
            + "|---|---|---|---|---|---|---|---|---|---|\n"
            + table,
        StandardCharsets.UTF_8);
    System.out.println("wrote " + prefix.getFileName() + ".json and .md");
  }

  private JsonNode demo(ObjectMapper json) throws JsonProcessingException {
    return demo.isBlank() ? json.getNodeFactory().textNode("not run") : json.readTree(demo);
  }
}
