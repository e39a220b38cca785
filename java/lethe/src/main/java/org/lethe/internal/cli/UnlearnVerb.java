package org.lethe.internal.cli;

import java.util.concurrent.Callable;
import org.lethe.config.RunConfig;
import org.lethe.run.Evaluate;
import org.lethe.run.Unlearn;
import picocli.CommandLine.Command;
import picocli.CommandLine.Mixin;

/** {@code lethe unlearn}: makes a model forget rows and keep others. */
@Command(
    name = "unlearn",
    description = "Make a model forget rows and keep others.",
    mixinStandardHelpOptions = true,
    versionProvider = Main.Version.class,
    footer = {
      "",
      "Example: lethe unlearn model=DIR output=runs/forgot data.forget=[forget.jsonl]",
      "         data.retain=[retain.jsonl] method.forget=NPO method.retain=GD train.steps=60"
    })
final class UnlearnVerb implements Callable<Integer> {
  @Mixin private ConfigOptions options;

  private final Console console;

  UnlearnVerb(Console console) {
    this.console = console;
  }

  @Override
  public Integer call() {
    RunConfig config = options.load(RunConfig.class);
    Unlearn.Result result;
    try (ProgressListener listener = new ProgressListener(console)) {
      result = Unlearn.run(config, null, listener, console.stop());
    }
    console.out().println("Before:");
    console.out().print(Evaluate.table("Before", result.before()).plain());
    console.out().println("After:");
    console.out().print(Evaluate.table("After", result.after()).plain());
    console.out().println("Written to " + config.output());
    return ExitCode.OK;
  }
}
