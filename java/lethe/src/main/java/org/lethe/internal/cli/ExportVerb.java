package org.lethe.internal.cli;

import java.util.LinkedHashMap;
import java.util.Locale;
import java.util.Map;
import java.util.concurrent.Callable;
import org.lethe.checkpoint.ModelExport;
import org.lethe.config.ExportConfig;
import org.lethe.run.Export;
import picocli.CommandLine.Command;
import picocli.CommandLine.Mixin;

/** {@code lethe export}: models and adapters in another type or layout. */
@Command(
    name = "export",
    description =
        "Write a model in another type or in shards (model=DIR, with adapter=DIR merged), or the"
            + " adapter of a run or checkpoint in PEFT's layout (from=DIR).",
    mixinStandardHelpOptions = true,
    versionProvider = Main.Version.class,
    footer = {
      "",
      "Example: lethe export model=DIR output=small --dtype bf16 --max-shard-size 2GB",
      "         lethe export from=runs/forgot output=for-peft --dtype fp32"
    })
final class ExportVerb implements Callable<Integer> {
  @Mixin private ExportOptions options;
  @Mixin private JsonOption json;

  private final Console console;

  ExportVerb(Console console) {
    this.console = console;
  }

  @Override
  public Integer call() {
    ExportConfig config = options.load();
    if (config.model().isPresent()) {
      ModelExport.Result result = Export.model(config);
      json.print(
          console,
          ExportOptions.facts(config, result),
          () -> ExportOptions.print(console, config, result));
      return ExitCode.OK;
    }
    long bytes = Export.adapter(config);
    Map<String, Object> facts = new LinkedHashMap<>();
    facts.put("output", config.output().toString());
    facts.put("dtype", config.dtype().name().toLowerCase(Locale.ROOT));
    facts.put("bytes", bytes);
    json.print(
        console,
        facts,
        () ->
            console
                .out()
                .printf(Locale.ROOT, "Written to %s: %,d bytes%n", config.output(), bytes));
    return ExitCode.OK;
  }
}
