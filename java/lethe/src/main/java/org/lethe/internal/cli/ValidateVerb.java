package org.lethe.internal.cli;

import java.nio.file.Path;
import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Locale;
import java.util.Map;
import java.util.Optional;
import java.util.concurrent.Callable;
import org.lethe.run.Finding;
import org.lethe.run.Task;
import org.lethe.run.Validation;
import picocli.CommandLine.Command;
import picocli.CommandLine.Mixin;
import picocli.CommandLine.Option;
import picocli.CommandLine.Parameters;

/** {@code lethe validate}: everything that can be checked before a run. */
@Command(
    name = "validate",
    description =
        "Check a run's YAML file without running it: keys, data files row by row, model, tokenizer,"
            + " lengths, what the method needs, room for the output. Exits with 2 if the run would"
            + " fail.",
    mixinStandardHelpOptions = true,
    versionProvider = Main.Version.class,
    footer = {"", "Example: lethe validate run.yaml train.epochs=3"})
final class ValidateVerb implements Callable<Integer> {
  @Parameters(index = "0", paramLabel = "FILE", description = "YAML file of the run.")
  private Path file;

  @Parameters(
      index = "1..*",
      arity = "0..*",
      paramLabel = "KEY.PATH=VALUE",
      description = "Overrides of the file's keys.")
  private List<String> overrides = List.of();

  @Option(
      names = "--for",
      paramLabel = "TASK",
      completionCandidates = TaskNames.class,
      description =
          "Check it as finetune, unlearn or evaluate; default: what the rows it names suggest.")
  private Task task;

  @Mixin private JsonOption json;

  private final Console console;

  ValidateVerb(Console console) {
    this.console = console;
  }

  @Override
  public Integer call() {
    Validation.Result result = Validation.check(file, overrides, Optional.ofNullable(task));
    long errors = result.count(Finding.Level.ERROR);
    long warnings = result.count(Finding.Level.WARNING);
    String checkedAs = result.task().map(Task::verb).orElse("unknown");
    Map<String, Object> facts = new LinkedHashMap<>();
    facts.put("file", file.toString());
    facts.put("task", checkedAs);
    facts.put("errors", errors);
    facts.put("warnings", warnings);
    List<Map<String, Object>> findings = new ArrayList<>();
    for (Finding finding : result.findings()) {
      Map<String, Object> row = new LinkedHashMap<>();
      row.put("level", level(finding));
      row.put("key", finding.key());
      row.put("message", finding.message());
      findings.add(row);
    }
    facts.put("findings", findings);
    json.print(
        console,
        facts,
        () -> {
          for (Finding finding : result.findings()) {
            console
                .out()
                .printf(
                    Locale.ROOT, "%-8s %s: %s%n", level(finding), finding.key(), finding.message());
          }
          console
              .out()
              .printf(
                  Locale.ROOT,
                  "%s: %s, checked as %s%n",
                  file,
                  errors + warnings == 0
                      ? "nothing wrong"
                      : counted(errors, "error") + ", " + counted(warnings, "warning"),
                  checkedAs);
        });
    return errors > 0 ? ExitCode.USER : ExitCode.OK;
  }

  private static String level(Finding finding) {
    return finding.level().name().toLowerCase(Locale.ROOT);
  }

  private static String counted(long count, String word) {
    return count + " " + word + (count == 1 ? "" : "s");
  }
}
