package org.lethe.bench;

import com.fasterxml.jackson.databind.ObjectMapper;
import java.io.IOException;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Locale;
import java.util.Map;
import java.util.concurrent.Callable;
import java.util.function.Supplier;
import org.lethe.LetheException;
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
 * LoRA steps on models of the sizes of Llama 3.2 1B, Llama 2 7B and Llama 3 8B with random weights,
 * made on the device: what is asked of their speed and memory, then the small one beside the CPU.
 * Writes PREFIX.json and PREFIX.md, anew after every model; exits with 1 when a number is not what
 * it must be. A target that is missed is told, and is no wrong number.
 */
@Command(name = "device-steps", mixinStandardHelpOptions = true)
public final class DeviceSteps implements Callable<Integer> {
  private static final int WARMUP = 2;
  private static final double CPU_SECONDS = 40;

  /** Five epochs of forget10's 400 rows, sixteen at a time. */
  private static final int FORGET10_STEPS = 5 * 400 / 16;

  private static final long GB = 1_000_000_000L;

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

  @Option(names = "--graphs", defaultValue = "NEVER", description = "never, auto or always")
  Graphs graphs;

  @Option(names = "--small", description = "Tiny models: that it runs, no figures")
  boolean small;

  private boolean failed;
  private double productRate;
  private final List<Map<String, Object>> results = new ArrayList<>();
  private final DeviceTargets targets = new DeviceTargets();
  private final StringBuilder table = new StringBuilder();

  /** Exits 0, 1 when something is wrong, 2 for bad input. */
  public static void main(String[] args) {
    System.exit(new CommandLine(new DeviceSteps()).execute(args));
  }

  @Override
  public Integer call() throws IOException {
    Method mixed = Methods.create(MethodConfig.of("ME+GD"));
    Method compared = Methods.create(MethodConfig.of("NPO+KL"));
    productRate = ProductRate.of(device, small ? 64 : 8192, small ? 32 : 4096, small ? 32 : 4096);
    // The figures that are asked for first: whoever is cut off has them.
    TimedSteps sixteen = alone("llama-2-7b", work("7B", BaseStorage.PLAIN, mixed, 16, 0, 0));
    share("16 + 16", sixteen, 0.55);
    if (sixteen != null) {
      targets.atMost(
          "Llama 2 7B, 5 epochs of forget10's rows, 16 + 16 a step, ME+GD: seconds of training",
          FORGET10_STEPS * median(sixteen) / 1e3,
          25);
    }
    share("4 + 4", alone("llama-2-7b", work("7B", BaseStorage.PLAIN, mixed, 4, 0, 0)), 0.35);
    within("llama-2-7b", work("7B", BaseStorage.NF4_DOUBLE, mixed, 2, 256, 65 * GB / 10));
    within("llama-3-8b", work("8B", BaseStorage.NF4_DOUBLE, mixed, 2, 256, 8 * GB));
    TimedSteps.Work one = work("1B", BaseStorage.PLAIN, mixed, 2, 256, 45 * GB / 10);
    gaps("llama-3.2-1b", one, within("llama-3.2-1b", one), 0.1);
    TimedSteps.Work seven = work("7B", BaseStorage.PLAIN, mixed, 8, 256, 0);
    gaps("llama-2-7b", seven, predicted("llama-2-7b", seven), 0.03);
    predicted("llama-2-7b", work("7B", BaseStorage.PLAIN, compared, 8, 256, 0));
    for (Method method : List.of(mixed, compared)) {
      TimedSteps.Work work = work("1B", BaseStorage.PLAIN, method, 4, 48, 0);
      attempt("llama-3.2-1b", work, () -> beside("llama-3.2-1b", work));
    }
    return failed ? 1 : 0;
  }

  private TimedSteps.Work work(
      String model, BaseStorage base, Method method, int pairs, int length, long budget) {
    String name = small ? (model.equals("1B") ? "tiny-tied" : "tiny") : model;
    return new TimedSteps.Work(
        model(name),
        base,
        method,
        small ? 2 : pairs,
        small && length > 0 ? 12 : length,
        small ? 0 : budget,
        graphs);
  }

  /** What share of one large product's rate the step's own products reach. */
  private void share(String rows, TimedSteps own, double wanted) {
    if (own != null) {
      targets.atLeast(
          "Llama 2 7B, r 8, " + rows + " rows like TOFU's: rate over that of one product",
          own.flops() / median(own) * 1e3 / productRate,
          wanted);
    }
  }

  /** A step that keeps to a budget: what the device says is used must be within it. */
  private TimedSteps within(String name, TimedSteps.Work work) throws IOException {
    TimedSteps own = predicted(name, work);
    if (own != null && !small) {
      targets.atMost(
          name + ", " + own.tokens() + " tokens a step: GB of the device",
          own.used() / 1e9,
          work.budget() / 1e9);
    }
    return own;
  }

  /** What launching op by op costs of a step: the same one in graphs is without it. */
  private void gaps(String name, TimedSteps.Work work, TimedSteps plain, double most)
      throws IOException {
    TimedSteps whole =
        plain == null || graphs != Graphs.NEVER ? null : alone(name, work.captured());
    if (whole != null) {
      targets.atMost(
          name + ", " + whole.tokens() + " tokens a step: share of its time that graphs save",
          1 - median(whole) / median(plain),
          most);
      write();
    }
  }

  /** A step beside what {@code lethe plan} says of it. */
  private TimedSteps predicted(String name, TimedSteps.Work work) throws IOException {
    TimedSteps own = alone(name, work);
    if (own != null && !small) {
      long said = DevicePlan.bytes(name, device, work);
      targets.atMost(
          name + ", " + work.method().name() + ", " + DevicePlan.words(said, own.used()),
          Math.abs((double) said / own.used() - 1),
          0.05);
      write();
    }
    return own;
  }

  /** One model's steps; what keeps them from being made keeps no others. */
  private TimedSteps attempt(String name, TimedSteps.Work work, Supplier<TimedSteps> steps)
      throws IOException {
    TimedSteps own = null;
    try {
      own = steps.get();
    } catch (LetheException e) {
      failed = true;
      Map<String, Object> result = new LinkedHashMap<>();
      result.put("model", name);
      result.put("base", work.base().name().toLowerCase(Locale.ROOT));
      result.put("method", work.method().name());
      result.put("status", "failed");
      result.put("why", e.getMessage());
      results.add(result);
      String line = "| " + name + " | | | | | | | | | FAILED: " + e.getMessage() + " |\n";
      table.append(line.replace('\n', ' ').strip()).append('\n');
      System.out.print(line);
    }
    write();
    return own;
  }

  /** Sizes by name: those of Llama 3.2 1B, Llama 2 7B and Llama 3 8B, and two tiny ones. */
  static ModelConfig model(String name) {
    return switch (name) {
      case "1B" -> llama(128256, 2048, 16, 32, 8, 64, 8192, true);
      case "8B" -> llama(128256, 4096, 32, 32, 8, 128, 14336, false);
      case "7B" -> llama(32000, 4096, 32, 32, 32, 128, 11008, false);
      case "tiny" -> llama(1003, 96, 2, 4, 4, 24, 160, false);
      case "tiny-tied" -> llama(1003, 64, 2, 4, 2, 16, 96, true);
      default ->
          throw new UserException(
              "no model is called " + name + "; 1B, 7B, 8B, tiny, tiny-tied are");
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
  private TimedSteps beside(String name, TimedSteps.Work work) {
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
    return own;
  }

  private TimedSteps alone(String name, TimedSteps.Work work) throws IOException {
    return attempt(name, work, () -> made(name, work));
  }

  private TimedSteps made(String name, TimedSteps.Work work) {
    TimedSteps own = TimedSteps.on(device, work, Double.MAX_VALUE);
    Map<String, Object> result = facts(name, work, own);
    double[] losses = own.losses();
    boolean good = finite(losses) && losses[losses.length - 1] < losses[0];
    judge(
        result,
        own,
        good,
        String.format(Locale.ROOT, "loss %.4f to %.4f", losses[0], losses[losses.length - 1]));
    return own;
  }

  private static Map<String, Object> facts(String name, TimedSteps.Work work, TimedSteps own) {
    double median = median(own);
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

  private static double median(TimedSteps own) {
    double[] timed =
        Arrays.copyOfRange(own.ms(), Math.min(WARMUP, own.ms().length - 1), own.ms().length);
    Arrays.sort(timed);
    return timed[timed.length / 2];
  }

  private void judge(Map<String, Object> result, TimedSteps own, boolean good, String words) {
    result.put("status", good ? "passed" : "failed");
    failed |= !good;
    results.add(result);
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

  private void write() throws IOException {
    ObjectMapper json = new ObjectMapper();
    Map<String, Object> all = new LinkedHashMap<>();
    all.put("what", "e2e");
    try (Backend backend = Backend.open(device, 1)) {
      all.put("device", json.readTree(backend.description()));
    }
    all.put("commit", commit);
    all.put("date", date);
    all.put("command", command);
    all.put("product_tflop_per_s", productRate / 1e12);
    all.put("targets", targets.all());
    all.put("results", results);
    Whole.write(
        Path.of(prefix + ".json"),
        json.writerWithDefaultPrettyPrinter().writeValueAsString(all) + "\n");
    Whole.write(
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
            + "TFLOP/s: the step's frozen matrix products over its time; one product of 8192 x"
            + " 4096 x 4096 reaches "
            + Math.round(productRate / 1e12)
            + ". GB: the most that was taken of the device, by its context, libraries and other"
            + " processes, too. Launches: of one step.\n\n"
            + targets.table()
            + "| model | base | method | tokens | ms | tokens/s | TFLOP/s | GB | launches | verdict"
            + " |\n"
            + "|---|---|---|---|---|---|---|---|---|---|\n"
            + table);
  }
}
