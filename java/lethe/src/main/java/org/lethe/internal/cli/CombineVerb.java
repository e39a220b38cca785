package org.lethe.internal.cli;

import java.nio.file.Path;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Locale;
import java.util.Map;
import java.util.concurrent.Callable;
import org.lethe.checkpoint.AdapterArithmetic;
import org.lethe.run.Export;
import picocli.CommandLine.Command;
import picocli.CommandLine.Mixin;
import picocli.CommandLine.Option;

/** {@code lethe combine}: sums of adapters, as an adapter. */
@Command(
    name = "combine",
    description = "Write one adapter that is a sum of adapters, each times a coefficient.",
    mixinStandardHelpOptions = true,
    versionProvider = Main.Version.class,
    footer = {
      "",
      "Examples: lethe combine --adapter runs/learnt/adapter:-1 -o runs/negated",
      "          lethe combine --adapter runs/old/adapter:-0.3 \\",
      "            --adapter runs/new/adapter -o both"
    })
final class CombineVerb implements Callable<Integer> {
  @Option(
      names = "--adapter",
      required = true,
      paramLabel = "DIR[:COEFFICIENT]",
      description = "Adapter directory in PEFT's layout, and its coefficient (1); once for each.")
  private List<String> adapters;

  @Option(
      names = {"-o", "--output"},
      required = true,
      paramLabel = "DIR",
      description = "Directory for the sum.")
  private Path output;

  @Option(
      names = "--base-model",
      defaultValue = "",
      paramLabel = "NAME",
      description = "What PEFT shall call the base; default: what the adapters call it.")
  private String baseModel;

  @Option(names = "--overwrite", description = "Replace what the output directory holds.")
  private boolean overwrite;

  @Mixin private JsonOption json;

  private final Console console;

  CombineVerb(Console console) {
    this.console = console;
  }

  @Override
  public Integer call() {
    AdapterArithmetic.Result result =
        Export.combine(WeightedAdapter.parse("--adapter", adapters), baseModel, output, overwrite);
    Map<String, Object> facts = new LinkedHashMap<>();
    facts.put("output", output.toString());
    facts.put("rank", result.rank());
    facts.put("modules", result.modules());
    facts.put("bytes", result.bytes());
    json.print(
        console,
        facts,
        () ->
            console
                .out()
                .printf(
                    Locale.ROOT,
                    "Written to %s: %d modules of rank %d, %,d bytes%n",
                    output,
                    result.modules(),
                    result.rank(),
                    result.bytes()));
    return ExitCode.OK;
  }
}
