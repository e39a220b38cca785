package org.lethe.internal.cli;

import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.concurrent.Callable;
import org.lethe.UserException;
import org.lethe.config.Bytes;
import org.lethe.config.RunConfig;
import org.lethe.report.Table;
import org.lethe.run.MemoryForecast;
import org.lethe.run.Planning;
import org.lethe.run.Shapes;
import org.lethe.run.Task;
import picocli.CommandLine.Command;
import picocli.CommandLine.Mixin;
import picocli.CommandLine.Option;

/** {@code lethe plan}: what a training will take of its device. */
@Command(
    name = "plan",
    description =
        "Say what a training will take of its device, part by part, before anything is loaded,"
            + " whether that fits, and which setting would make it fit. Exits with 3 if it does"
            + " not.",
    mixinStandardHelpOptions = true,
    versionProvider = Main.Version.class,
    footer = {
      "",
      "Examples: lethe plan model=DIR dtype=bf16 memory.budget=8GB",
      "          lethe plan --shape llama-3.2-1b --device cuda dtype=bf16 \\",
      "            memory.budget=4.5GB"
    })
final class PlanVerb implements Callable<Integer> {
  @Mixin private ConfigOptions options;

  @Option(
      names = "--shape",
      paramLabel = "NAME",
      completionCandidates = ShapeNames.class,
      description = "Sizes in place of model=DIR, one of the shapes below.")
  private String shape;

  @Option(
      names = "--for",
      paramLabel = "TASK",
      completionCandidates = TaskNames.class,
      description = "finetune or unlearn. Default: unlearn.")
  private Task task = Task.UNLEARN;

  @Option(
      names = "--row-tokens",
      paramLabel = "N",
      defaultValue = "128",
      description = "Tokens of the longest row. Default: ${DEFAULT-VALUE}.")
  private int rowTokens;

  @Mixin private JsonOption json;

  private final Console console;

  PlanVerb(Console console) {
    this.console = console;
  }

  static final class ShapeNames extends ArrayList<String> {
    private static final long serialVersionUID = 1;

    ShapeNames() {
      super(Shapes.names());
    }
  }

  @Override
  public Integer call() {
    if (task == Task.EVALUATE) {
      throw new UserException("--for is evaluate, must be finetune or unlearn");
    }
    // Nothing is written.
    RunConfig config = options.load(RunConfig.class, List.of("output=none"));
    MemoryForecast plan = Planning.plan(config, Optional.ofNullable(shape), task, rowTokens);
    json.print(console, facts(plan), () -> console.out().print(text(plan)));
    return plan.fits() ? ExitCode.OK : ExitCode.ENVIRONMENT;
  }

  private static Map<String, Object> facts(MemoryForecast plan) {
    Map<String, Object> facts = new LinkedHashMap<>();
    facts.put("model", plan.model());
    facts.put("training", plan.training());
    facts.put("device", plan.device());
    facts.put("parts_bytes", plan.parts());
    facts.put("phases_bytes", plan.phases());
    facts.put("peak_bytes", plan.peak());
    plan.available().ifPresent(bytes -> facts.put("available_bytes", bytes));
    facts.put("bound", plan.bound());
    facts.put("tokens_per_micro_batch", plan.limit());
    facts.put("largest_piece_tokens", plan.piece());
    facts.put("recomputed_layers", plan.recomputed());
    facts.put("offloaded_layers", plan.offloaded());
    facts.put("layers", plan.layers());
    facts.put("fits", plan.fits());
    facts.put("remedies", plan.remedies());
    return facts;
  }

  private static String text(MemoryForecast plan) {
    List<List<Table.Cell>> rows = new ArrayList<>();
    plan.parts().forEach((part, bytes) -> rows.add(Table.row(part, Bytes.text(bytes))));
    plan.phases()
        .forEach(
            (phase, bytes) -> rows.add(Table.row("at one time in " + phase, Bytes.text(bytes))));
    rows.add(Table.row("predicted peak", Bytes.text(plan.peak())));
    Table table =
        new Table(
            plan.model() + " on " + plan.device() + ": " + plan.training(),
            List.of("part", "memory"),
            rows);
    StringBuilder text = new StringBuilder(table.title()).append("\n\n").append(table.plain());
    text.append("\nPieces of at most ").append(plan.piece()).append(" tokens; ");
    text.append(plan.recomputed()).append(" of ").append(plan.layers());
    text.append(" layers computed again in the backward pass, ");
    text.append(plan.offloaded()).append(" kept on the host.\n");
    if (plan.available().isEmpty()) {
      text.append("Not known: the memory of the device, which is not here; give memory.budget.\n");
    } else {
      String bound = Bytes.text(plan.available().getAsLong()) + " of " + plan.bound();
      text.append(plan.fits() ? "Fits in " : "Does not fit in ").append(bound).append(".\n");
    }
    plan.remedies().forEach(r -> text.append("It would fit with ").append(r).append('\n'));
    return text.toString();
  }
}
