package org.lethe.internal.cli;

import java.nio.file.Path;
import java.util.LinkedHashMap;
import java.util.Map;
import java.util.concurrent.Callable;
import org.lethe.run.Inspection;
import picocli.CommandLine.Command;
import picocli.CommandLine.Mixin;
import picocli.CommandLine.Option;
import picocli.CommandLine.Parameters;

/** {@code lethe inspect}: what stands in a directory. */
@Command(
    name = "inspect",
    description =
        "Say what a path holds: a model, an adapter, a run, a checkpoint or a safetensors file; its"
            + " sizes, types, shapes and settings.",
    mixinStandardHelpOptions = true,
    versionProvider = Main.Version.class,
    footer = {"", "Example: lethe inspect runs/forgot/adapter --tensors"})
final class InspectVerb implements Callable<Integer> {
  @Parameters(paramLabel = "PATH", description = "A directory, or a .safetensors file.")
  private Path path;

  @Option(names = "--tensors", description = "List every tensor, not kinds of tensors.")
  private boolean tensors;

  @Mixin private JsonOption json;

  private final Console console;

  InspectVerb(Console console) {
    this.console = console;
  }

  @Override
  public Integer call() {
    Inspection inspection = Inspection.of(path, tensors);
    Map<String, Object> facts = new LinkedHashMap<>();
    facts.put("kind", inspection.kind());
    facts.putAll(inspection.facts());
    json.print(console, facts, () -> console.out().print(Facts.text(facts)));
    return ExitCode.OK;
  }
}
