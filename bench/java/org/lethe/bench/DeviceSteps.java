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
import org.lethe.method.Method;
import org.lethe.method.MethodConfig;
import org.lethe.method.Methods;
import org.lethe.model.BaseStorage;
import org.lethe.model.ModelConfig;
import org.lethe.train.Graphs;
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
  private static final int WARMUP = 2;
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
      results.add(beside("Llama 3.2 1B", work(one, plain, method, 4, 48)));
      results.add(alone("Llama 2 7B", work(seven, plain, method, 8, 256)));
    }
    // What a small GPU can hold: 1024 tokens a step.
    Method method = Methods.create(MethodConfig.of(METHODS.get(0)));
    BaseStorage codes = BaseStorage.NF4_DOUBLE;
    results.add(alone("Llama 2 7B", work(seven, codes, method, 2, 256)));
    write(results);
    return failed ? 1 : 0;
  }

  private TimedSteps.Work work(
      ModelConfig config, BaseStorage base, Method method, int pairs, int length) {
    return new TimedSteps.Work(
        config, base, method, small ? 2 : pairs, small ? 12 : length, graphs);
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
  private Map<String, Object> beside(String name, TimedSteps.Work work) {
    // A slow CPU makes fewer steps; then the device makes as few once more, to be compared.
    TimedSteps cpu = TimedSteps.on("cpu", work, CPU_SECONDS);
    TimedSteps own = TimedSteps.on(device, work, Double.MAX_VALUE);
    int common = cpu.losses().length;
    TimedSteps same = common == TimedSteps.STEPS ? own : TimedSteps.on(device, work, -common);
    Map<String, Object> result = facts(name, work, own);
    double noise = noise(work.config());
    double worst = 0;
    for (int i = 0; i < common; i++) {
      // The loss is a mean of what logits of deviation sigma say; their rounding adds up over the
      // steps at worst.
      worst =
          Math.max(
              worst,
              Math.abs(same.losses()[i] - cpu.losses()[i])
                  / (lossBound(work.config(), noise) * (i + 1)));
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

  private Map<String, Object> alone(String name, TimedSteps.Work work) {
    TimedSteps own = TimedSteps.on(device, work, Double.MAX_VALUE);
    Map<String, Object> result = facts(name, work, own);
    double[] losses = own.losses();
    boolean good = finite(losses) && losses[losses.length - 1] < losses[0];
    judge(
        result,
        own,
        good,
        String.format(Locale.ROOT, "loss %.4f to %.4f", losses[0], losses[losses.length - 1]));
    return result;
  }

  private static Map<String, Object> facts(String name, TimedSteps.Work work, TimedSteps own) {
    double[] timed =
        Arrays.copyOfRange(own.ms(), Math.min(WARMUP, own.ms().length - 1), own.ms().length);
    Arrays.sort(timed);
    double median = timed[timed.length / 2];
    Map<String, Object> facts = new LinkedHashMap<>();
    facts.put("model", name + "'s sizes, random weights, bf16, LoRA r=8 on all linears");
    facts.put("base", work.base().name().toLowerCase(Locale.ROOT));
    facts.put("method", work.method().name());
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

  private void judge(Map<String, Object> result, TimedSteps own, boolean good, String words) {
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
