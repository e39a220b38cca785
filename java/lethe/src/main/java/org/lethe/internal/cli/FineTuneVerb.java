package org.lethe.internal.cli;

import java.util.concurrent.Callable;
import org.lethe.config.RunConfig;
import org.lethe.run.FineTune;
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
      "Example: lethe finetune model=DIR output=runs/tuned data.train=[rows.jsonl] train.epochs=3"
    })
final class FineTuneVerb implements Callable<Integer> {
  @Mixin private ConfigOptions options;

  private final Console console;

  FineTuneVerb(Console console) {
    this.console = console;
  }

  @Override
  public Integer call() {
    RunConfig config = options.load(RunConfig.class);
    try (ProgressListener listener = new ProgressListener(console)) {
      FineTune.run(config, listener, console.stop());
    }
    console.out().println("Written to " + config.output());
    return ExitCode.OK;
  }
}
