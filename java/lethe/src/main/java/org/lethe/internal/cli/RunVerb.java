package org.lethe.internal.cli;

import java.nio.file.Path;
import java.util.List;
import java.util.Map;
import java.util.concurrent.Callable;
import org.lethe.config.RunConfig;
import org.lethe.run.Phases;
import picocli.CommandLine.Command;
import picocli.CommandLine.Mixin;

/** {@code lethe run}: phases one after the other. */
@Command(
    name = "run",
    description = "Run the phases of a file one after the other, each on what the last one made.",
    mixinStandardHelpOptions = true,
    versionProvider = Main.Version.class,
    footer = {
      "",
      "Example: lethe run --config continual.yaml",
      "",
      "  model: tuned/model",
      "  output: runs/continual",
      "  data: {retain: [retain.jsonl]}",
      "  method: {forget: NPO, retain: KL}",
      "  phases:",
      "    - {task: unlearn, name: first, data: {forget: [first.jsonl]}}",
      "    - {task: unlearn, name: second, data: {forget: [second.jsonl]},",
      "       reference: moving}",
      "    - {task: evaluate, data: {forget: [first.jsonl, second.jsonl]}}",
      "",
      "A phase inherits the sections outside it. {repeat: 3, phases: [...]} stands",
      "for its phases three times. lethe resume goes on where it was interrupted."
    })
final class RunVerb implements Callable<Integer> {
  @Mixin private ConfigOptions options;
  @Mixin private JsonOption json;

  private final Console console;

  RunVerb(Console console) {
    this.console = console;
  }

  @Override
  public Integer call() {
    RunConfig config = options.load(RunConfig.class);
    List<String> directories = run(config).stream().map(Path::toString).toList();
    json.print(
        console,
        Map.of("phases", directories),
        () -> directories.forEach(d -> console.out().println("Written to " + d)));
    return ExitCode.OK;
  }

  private List<Path> run(RunConfig config) {
    try (ProgressListener listener = new ProgressListener(console)) {
      return Phases.run(config, listener, console.stop());
    }
  }
}
