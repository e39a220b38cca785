package org.lethe.internal.cli;

import java.nio.file.Path;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.concurrent.Callable;
import org.lethe.config.Config;
import org.lethe.config.RunConfig;
import org.lethe.run.Task;
import picocli.CommandLine.Command;
import picocli.CommandLine.Mixin;
import picocli.CommandLine.Option;
import picocli.CommandLine.Parameters;

/** {@code lethe init}: a run's YAML file to begin with. */
@Command(
    name = "init",
    description = "Write a YAML file for a run: every key that the task uses, explained.",
    mixinStandardHelpOptions = true,
    versionProvider = Main.Version.class,
    footer = {
      "",
      "Example: lethe init run.yaml --for unlearn",
      "         (fill in model, output and the data files, then:)",
      "         lethe validate run.yaml && lethe unlearn --config run.yaml"
    })
final class InitVerb implements Callable<Integer> {
  /** Values to be replaced by the user's own. */
  private static final Map<Task, List<String>> EXAMPLES =
      Map.of(
          Task.FINETUNE,
          List.of("model=MODEL_DIR", "output=runs/tuned", "data.train=[train.jsonl]"),
          Task.UNLEARN,
          List.of(
              "model=MODEL_DIR",
              "output=runs/forgot",
              "data.forget=[forget.jsonl]",
              "data.retain=[retain.jsonl]"),
          Task.EVALUATE,
          List.of(
              "model=MODEL_DIR",
              "output=runs/judged",
              "data.forget=[forget.jsonl]",
              "data.retain=[retain.jsonl]"));

  /** Keys of the first level that the task does not look at. */
  private static final Map<Task, Set<String>> UNUSED =
      Map.of(
          Task.FINETUNE, Set.of("adapter", "method", "evaluate", "phases"),
          Task.UNLEARN, Set.of("adapter", "scratch", "phases"),
          Task.EVALUATE, Set.of("method", "train", "lora", "scratch", "checkpoint", "phases"));

  @Parameters(
      arity = "0..1",
      paramLabel = "FILE",
      defaultValue = "run.yaml",
      description = "Default: ${DEFAULT-VALUE}.")
  private Path file;

  @Option(
      names = "--for",
      paramLabel = "TASK",
      completionCandidates = TaskNames.class,
      defaultValue = "unlearn",
      description = "finetune, unlearn or evaluate. Default: ${DEFAULT-VALUE}.")
  private Task task;

  @Option(names = "--overwrite", description = "Replace the file if it exists.")
  private boolean overwrite;

  @Option(
      names = "--schema",
      paramLabel = "PATH",
      description =
          "Begin with a line that names the JSON schema (lethe schema) to editors with a YAML"
              + " language server.")
  private String schema;

  @Mixin private JsonOption json;

  private final Console console;

  InitVerb(Console console) {
    this.console = console;
  }

  @Override
  public Integer call() {
    TextFile.write(file, text(), overwrite);
    Map<String, Object> facts = new LinkedHashMap<>();
    facts.put("file", file.toString());
    facts.put("task", task.verb());
    json.print(
        console,
        facts,
        () -> {
          console.out().println("Written to " + file + "; fill in its paths, then:");
          console.out().println("  lethe validate " + file);
          console.out().println("  lethe " + task.verb() + " --config " + file);
        });
    return ExitCode.OK;
  }

  private String text() {
    StringBuilder text = new StringBuilder();
    if (schema != null) {
      text.append("# yaml-language-server: $schema=").append(schema).append('\n');
    }
    text.append("# lethe ").append(task.verb()).append(" --config ").append(file.getFileName());
    text.append(
        "\n"
            + "# Replace the paths; the other values are the defaults, which stand also for keys"
            + " that are left out.\n\n");
    RunConfig config = Config.of(RunConfig.class, EXAMPLES.get(task));
    return text.append(Config.toCommentedYaml(config, UNUSED.get(task))).toString();
  }
}
