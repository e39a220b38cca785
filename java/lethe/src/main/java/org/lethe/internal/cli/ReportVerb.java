package org.lethe.internal.cli;

import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.concurrent.Callable;
import java.util.stream.Stream;
import org.lethe.EnvironmentException;
import org.lethe.UserException;
import org.lethe.report.Comparison;
import org.lethe.report.Report;
import org.lethe.report.ReportData;
import org.lethe.report.RunFiles;
import org.lethe.report.Table;
import picocli.CommandLine.Command;
import picocli.CommandLine.Mixin;
import picocli.CommandLine.Parameters;

/** {@code lethe report}: says what runs came to, finished or not. */
@Command(
    name = "report",
    description =
        "Make the reports of runs anew from their files, finished or not, and print the scores"
            + " before and after; of several runs, side by side.",
    mixinStandardHelpOptions = true,
    versionProvider = Main.Version.class,
    footer = {
      "",
      "Example: lethe report runs/forgot",
      "         lethe report runs/demo-1        (every run in it)",
      "         lethe report runs/npo runs/me"
    })
final class ReportVerb implements Callable<Integer> {
  @Parameters(
      arity = "1..*",
      paramLabel = "RUN",
      description = "Output directory of finetune or unlearn, or a directory that holds some.")
  private List<Path> directories;

  @Mixin private JsonOption json;

  private final Console console;

  ReportVerb(Console console) {
    this.console = console;
  }

  @Override
  public Integer call() {
    List<RunFiles> runs = new ArrayList<>();
    for (Path directory : directories) {
      for (Path run : runsOf(directory)) {
        runs.add(RunFiles.read(run));
      }
    }
    List<ReportData> reports = runs.stream().map(Report::of).toList();
    for (int i = 0; i < runs.size(); i++) {
      Report.write(runs.get(i).directory(), reports.get(i));
    }
    json.print(
        console,
        Map.of("runs", runs.stream().map(ReportVerb::facts).toList()),
        () -> print(runs, reports));
    return ExitCode.OK;
  }

  private static Map<String, Object> facts(RunFiles run) {
    Map<String, Object> facts = new LinkedHashMap<>();
    facts.put("directory", run.directory().toString());
    facts.put("updates", run.steps().size());
    facts.put("skipped", run.steps().values().stream().filter(u -> !u.applied()).count());
    facts.put("resumes", run.resumes().size());
    facts.put("before", run.before().map(ReportVerb::scores).orElse(null));
    facts.put("after", run.after().map(ReportVerb::scores).orElse(null));
    facts.put("report", report(run).toString());
    return facts;
  }

  private static Map<String, Object> scores(RunFiles.Scores scores) {
    Map<String, Object> facts = new LinkedHashMap<>();
    facts.put("sets", scores.sets());
    facts.put("model_utility", scores.utility());
    return facts;
  }

  private static Path report(RunFiles run) {
    return run.directory().resolve("report.html");
  }

  private void print(List<RunFiles> runs, List<ReportData> reports) {
    if (runs.size() == 1) {
      print(reports.get(0));
    } else {
      console.out().print(Comparison.table(runs).plain());
    }
    runs.forEach(run -> console.out().println("Report: " + report(run)));
  }

  private void print(ReportData data) {
    console.out().println(data.title());
    data.summary().forEach(console.out()::println);
    for (Table table : data.tables()) {
      console.out().println();
      console.out().print(table.plain());
    }
    if (!data.notes().isEmpty()) {
      console.out().println();
      data.notes().forEach(note -> console.out().println("- " + note));
    }
  }

  /** The directory itself, or the runs right below it, by name. */
  private static List<Path> runsOf(Path directory) {
    if (RunFiles.isRun(directory) || !Files.isDirectory(directory)) {
      // What is no directory is refused where it is read.
      return List.of(directory);
    }
    try (Stream<Path> entries = Files.list(directory)) {
      List<Path> runs = entries.filter(RunFiles::isRun).sorted().toList();
      if (runs.isEmpty()) {
        throw new UserException(
            directory
                + ": is not the directory of a run, and holds none; give the output directory of"
                + " finetune or unlearn");
      }
      return runs;
    } catch (IOException e) {
      throw new EnvironmentException(directory + ": cannot be listed (" + e + ")", e);
    }
  }
}
