package org.lethe.internal.cli;

import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.concurrent.Callable;
import org.lethe.config.RunConfig;
import org.lethe.run.FineTune;
import org.lethe.train.StepReport;
import picocli.CommandLine.Command;
import picocli.CommandLine.Mixin;

/** {@code lethe finetune}: teaches a model rows. */
@Command(
    name = "finetune",
    description = "Teach a model rows: a given model, or with scratch a new one.",
    mixinStandardHelpOptions = true,
    versionProvider = Main.Version.class,
    footer = {
      "",
      "Example: lethe finetune model=DIR output=runs/tuned \\",
      "         data.train=[rows.jsonl] train.epochs=3"
    })
final class FineTuneVerb implements Callable<Integer> {
  @Mixin private ConfigOptions options;
  @Mixin private JsonOption json;

  private final Console console;

  FineTuneVerb(Console console) {
    this.console = console;
  }

  @Override
  public Integer call() {
    RunConfig config = options.load(RunConfig.class);
    List<StepReport> steps = run(config);
    Map<String, Object> facts = new LinkedHashMap<>();
    facts.put("steps", steps.size());
    facts.put("loss", steps.isEmpty() ? Double.NaN : steps.get(steps.size() - 1).loss());
    facts.put("output", config.output().toString());
    json.print(console, facts, () -> console.out().println("Written to " + config.output()));
    return ExitCode.OK;
  }

  private List<StepReport> run(RunConfig config) {
    try (ProgressListener listener = new ProgressListener(console)) {
      return FineTune.run(config, listener, console.stop());
    }
  }
}
