package org.lethe.internal.cli;

import java.util.concurrent.Callable;
import org.lethe.UserException;
import org.lethe.checkpoint.ModelExport;
import org.lethe.config.ExportConfig;
import org.lethe.run.Export;
import picocli.CommandLine.Command;
import picocli.CommandLine.Mixin;

/** {@code lethe merge}: an adapter becomes part of its model's weights. */
@Command(
    name = "merge",
    description =
        "Write a model with an adapter added to its weights, W + scale BA, rounded once to the"
            + " stored type; transformers loads it without PEFT.",
    mixinStandardHelpOptions = true,
    versionProvider = Main.Version.class,
    footer = {"", "Example: lethe merge model=DIR adapter=runs/forgot/adapter output=merged"})
final class MergeVerb implements Callable<Integer> {
  @Mixin private ExportOptions options;
  @Mixin private JsonOption json;

  private final Console console;

  MergeVerb(Console console) {
    this.console = console;
  }

  @Override
  public Integer call() {
    ExportConfig config = options.load();
    if (config.model().isEmpty() || config.adapter().isEmpty()) {
      throw new UserException("merge needs both; give model=DIR adapter=DIR output=DIR");
    }
    ModelExport.Result result = Export.model(config);
    json.print(
        console,
        ExportOptions.facts(config, result),
        () -> ExportOptions.print(console, config, result));
    return ExitCode.OK;
  }
}
