package org.lethe.internal.cli;

import com.fasterxml.jackson.core.JsonProcessingException;
import com.fasterxml.jackson.databind.ObjectMapper;
import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Locale;
import java.util.Map;
import java.util.concurrent.Callable;
import org.lethe.InternalFaultException;
import org.lethe.UserException;
import org.lethe.kernels.Dtype;
import org.lethe.report.Table;
import org.lethe.run.Bench;
import picocli.CommandLine.Command;
import picocli.CommandLine.Mixin;
import picocli.CommandLine.Option;

/** {@code lethe bench}: how fast this machine is, checked before it is timed. */
@Command(
    name = "bench",
    description = "Check and time the kernels and a training step on this machine.",
    mixinStandardHelpOptions = true,
    versionProvider = Main.Version.class,
    footer = {
      "",
      "Example: lethe bench --size 134M --dtype bf16 --seconds 10",
      "",
      "Weights and tokens are random; each result is compared with plain arithmetic",
      "first."
    })
final class BenchVerb implements Callable<Integer> {
  @Option(
      names = "--size",
      paramLabel = "NAME",
      defaultValue = "45M",
      description = "Model: 4M, 45M or 134M. Default: ${DEFAULT-VALUE}.")
  private String size;

  @Option(
      names = "--dtype",
      defaultValue = "fp32",
      description = "Storage: fp32 or bf16. Default: ${DEFAULT-VALUE}.")
  private String dtype;

  @Option(
      names = "--method",
      defaultValue = "ME+GD",
      description = "The step's objective. Default: ${DEFAULT-VALUE}.")
  private String method;

  @Option(
      names = "--pairs",
      defaultValue = "8",
      description = "Forget and retain sequences of a step, each: ${DEFAULT-VALUE}.")
  private int pairs;

  @Option(
      names = "--length",
      defaultValue = "128",
      description = "Tokens of a sequence: ${DEFAULT-VALUE}.")
  private int length;

  @Option(
      names = "--seconds",
      defaultValue = "4",
      description = "At least that long for each of five timings: ${DEFAULT-VALUE}.")
  private double seconds;

  @Option(
      names = "--device",
      paramLabel = "NAME",
      defaultValue = "cpu",
      description = "What to time: cpu, cuda or cuda:N. Default: ${DEFAULT-VALUE}.")
  private String device;

  @Option(names = "--threads", defaultValue = "0", description = "0: one per processor.")
  private int threads;

  @Mixin private JsonOption json;

  private final Console console;

  BenchVerb(Console console) {
    this.console = console;
  }

  @Override
  public Integer call() {
    Bench.Options options =
        new Bench.Options(
            Bench.size(size), storage(), device, threads, method, pairs, length, seconds);
    Bench.Result result = Bench.run(options, what -> console.err().println("lethe: " + what));
    json.print(console, facts(result), () -> console.out().print(table(result)));
    return ExitCode.OK;
  }

  private Dtype storage() {
    return switch (dtype) {
      case "fp32" -> Dtype.F32;
      case "bf16" -> Dtype.BF16;
      default -> throw new UserException("--dtype is " + dtype + ", must be fp32 or bf16");
    };
  }

  private String table(Bench.Result result) {
    List<List<Table.Cell>> rows = new ArrayList<>();
    double rate = result.timings().get(0).gflopPerSecond();
    for (Bench.Timing t : result.timings()) {
      rows.add(
          Table.row(
              t.name(),
              t.shape(),
              t.medianMs(),
              t.leastMs(),
              t.calls(),
              t.gflopPerSecond(),
              String.format(Locale.ROOT, "%.0f %%", 100 * t.gflopPerSecond() / rate),
              t.tokens() == 0 ? "" : String.format(Locale.ROOT, "%.0f", t.tokensPerSecond())));
    }
    Table table =
        new Table(
            size + " in " + dtype,
            List.of("what", "shape", "ms", "least ms", "calls", "GFLOP/s", "of gemm", "tokens/s"),
            rows);
    return table.plain()
        + "\nAll results agreed with plain arithmetic. ms: median of the calls. GFLOP/s counts the"
        + "\nmatrix products that are needed: a step's adapters and attention are not counted.\n"
        + result.processor()
        + "; "
        + result.backend()
        + "; Lethe "
        + result.version()
        + ", Java "
        + result.java()
        + "\n";
  }

  private Map<String, Object> facts(Bench.Result result) {
    List<Map<String, Object>> timings = new ArrayList<>();
    for (Bench.Timing t : result.timings()) {
      Map<String, Object> timing = new LinkedHashMap<>();
      timing.put("name", t.name());
      timing.put("shape", t.shape());
      timing.put("ms_median", t.medianMs());
      timing.put("ms_least", t.leastMs());
      timing.put("calls", t.calls());
      timing.put("gflop", t.gflop());
      timing.put("gflop_per_s", t.gflopPerSecond());
      if (t.tokens() > 0) {
        timing.put("tokens", t.tokens());
        timing.put("tokens_per_s", t.tokensPerSecond());
      }
      timings.add(timing);
    }
    Map<String, Object> facts = new LinkedHashMap<>();
    facts.put("lethe", result.version());
    facts.put("java", result.java());
    facts.put("processor", result.processor());
    try {
      facts.put("backend", new ObjectMapper().readTree(result.backend()));
    } catch (JsonProcessingException e) {
      throw new InternalFaultException("what a backend says of itself is not JSON", e);
    }
    facts.put("size", size);
    facts.put("dtype", dtype);
    facts.put("timings", timings);
    return facts;
  }
}
