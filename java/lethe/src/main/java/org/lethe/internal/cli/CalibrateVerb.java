package org.lethe.internal.cli;

import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Locale;
import java.util.Map;
import java.util.concurrent.Callable;
import org.lethe.config.RunConfig;
import org.lethe.evaluate.Evaluation;
import org.lethe.report.Table;
import org.lethe.run.Calibrate;
import picocli.CommandLine.Command;
import picocli.CommandLine.Mixin;

/**
 * {@code lethe calibrate}: how much of an adapter can be kept without losing what is to be kept.
 */
@Command(
    name = "calibrate",
    description =
        "Mix a model with what an adapter made of it, and find the mixture that just keeps a score;"
            + " then what it forgot can be compared.",
    mixinStandardHelpOptions = true,
    versionProvider = Main.Version.class,
    footer = {
      "",
      "Example: lethe calibrate model=DIR adapter=runs/forgot/adapter \\",
      "         output=runs/calibrated data.forget=[forget.jsonl] \\",
      "         data.retain=[retain.jsonl] calibrate.at_least=0.95"
    })
final class CalibrateVerb implements Callable<Integer> {
  @Mixin private ConfigOptions options;
  @Mixin private JsonOption json;

  private final Console console;

  CalibrateVerb(Console console) {
    this.console = console;
  }

  @Override
  public Integer call() {
    RunConfig config = options.load(RunConfig.class);
    Calibrate.Result result = calibrate(config);
    Evaluation chosen = result.chosen().evaluation();
    Map<String, Object> facts = new LinkedHashMap<>();
    facts.put("u", result.chosen().u());
    facts.put("bar", result.bar());
    facts.put("original", result.original().byName());
    facts.put("scores", chosen.byName());
    facts.put("output", config.output().toString());
    json.print(
        console,
        facts,
        () -> {
          console.out().print(table(config, result).plain());
          console
              .out()
              .printf(
                  Locale.ROOT,
                  "u = %.4g: the adapter times %.4g keeps %s at %.4f or more%nWritten to %s%n",
                  result.chosen().u(),
                  1 - result.chosen().u(),
                  config.calibrate().score(),
                  result.bar(),
                  config.output());
        });
    return ExitCode.OK;
  }

  private static Table table(RunConfig config, Calibrate.Result result) {
    String score = config.calibrate().score();
    List<String> names = new ArrayList<>(result.original().byName().keySet());
    names.removeIf(n -> !n.equals(score) && !n.startsWith("forget."));
    List<String> columns = new ArrayList<>(List.of("u"));
    columns.addAll(names);
    List<List<Table.Cell>> rows = new ArrayList<>();
    for (Calibrate.Tried tried : result.tried()) {
      List<Object> cells = new ArrayList<>(List.of(tried.u()));
      names.forEach(n -> cells.add(tried.evaluation().byName().get(n)));
      rows.add(Table.row(cells.toArray()));
    }
    return new Table("Mixtures", columns, rows);
  }

  private Calibrate.Result calibrate(RunConfig config) {
    try (ProgressListener listener = new ProgressListener(console)) {
      return Calibrate.runAndWrite(config, listener);
    }
  }
}
