package org.lethe.run;

import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Comparator;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.function.ToDoubleFunction;
import java.util.stream.Stream;
import org.lethe.EnvironmentException;
import org.lethe.UserException;
import org.lethe.checkpoint.OutputDirectory;
import org.lethe.config.Config;
import org.lethe.config.RunConfig;
import org.lethe.report.KeyValue;
import org.lethe.report.ReportData;
import org.lethe.report.RunDirectory;
import org.lethe.report.Series;
import org.lethe.report.Table;
import org.lethe.train.StepReport;

/**
 * The output directory of a training run: config, metrics line by line, report, results. What it
 * replaces is moved aside at the start and deleted only when the run has succeeded; a run that
 * fails puts it back. Where there was nothing to replace, a run that fails leaves the metrics of
 * its steps, or nothing when it made none.
 */
final class RunFolder implements AutoCloseable {
  private final Path target;
  private final Path aside;
  private final RunDirectory directory;
  private final RunConfig config;
  private final List<StepReport> steps = new ArrayList<>();
  private boolean succeeded;

  private RunFolder(Path target, Path aside, RunDirectory directory, RunConfig config) {
    this.target = target;
    this.aside = aside;
    this.directory = directory;
    this.config = config;
  }

  /**
   * Opens the configured output directory; it must be absent or empty unless it may be overwritten.
   */
  static RunFolder open(RunConfig config, String backend) {
    // A link to a directory stays one: what it points at is replaced.
    Path target = Inputs.real(config.output());
    OutputDirectory.check(config.output(), config.overwrite(), 0);
    Inputs.requireOutside(config);
    if (target.getFileName() == null) {
      throw new UserException(target + ": is the root directory; choose another output");
    }
    Path aside = target.resolveSibling("." + target.getFileName() + ".replaced");
    if (Files.exists(aside)) {
      throw new UserException(
          aside
              + ": holds what an interrupted run was to replace; move it back to "
              + target
              + ", or delete it");
    }
    try {
      if (Files.exists(target)) {
        Files.move(target, aside);
      }
    } catch (IOException e) {
      throw new EnvironmentException(
          target + ": cannot be moved aside (" + e.getMessage() + "); choose another output", e);
    }
    try {
      RunDirectory directory =
          RunDirectory.create(
              target, Config.toYaml(config), RunDirectory.environment(Version.string(), backend));
      return new RunFolder(target, aside, directory, config);
    } catch (RuntimeException e) {
      putBack(target, aside, true);
      throw e;
    }
  }

  Path resolve(String name) {
    return target.resolve(name);
  }

  void step(StepReport report) {
    steps.add(report);
    Map<String, Object> line = new LinkedHashMap<>();
    line.put("step", report.step());
    line.put("loss", report.loss());
    line.put("parts", report.parts());
    line.put("gradient_norm", report.gradientNorm());
    line.put("learning_rate", report.learningRate());
    line.put("tokens", report.tokens());
    line.put("applied", report.applied());
    directory.append(line);
  }

  /** Writes the report; afterwards the run has succeeded. */
  void succeed(String title, List<Table> tables, List<String> notes) {
    List<Series> curves = new ArrayList<>();
    curves.add(series("loss", StepReport::loss));
    if (!steps.isEmpty()) {
      steps.get(0).parts().keySet().stream()
          .filter(part -> steps.get(0).parts().size() > 1)
          .forEach(part -> curves.add(series(part, s -> s.parts().get(part))));
    }
    curves.add(series("gradient norm", StepReport::gradientNorm));
    List<KeyValue> facts = new ArrayList<>();
    facts.add(new KeyValue("Lethe", Version.string()));
    facts.add(new KeyValue("seed", Long.toString(config.seed())));
    facts.add(new KeyValue("steps", Integer.toString(steps.size())));
    facts.add(
        new KeyValue(
            "skipped steps", Long.toString(steps.stream().filter(s -> !s.applied()).count())));
    directory.writeReport(new ReportData(title, facts, curves, tables, notes));
    succeeded = true;
  }

  List<StepReport> steps() {
    return steps;
  }

  @Override
  public void close() {
    directory.close();
    if (!succeeded) {
      putBack(target, aside, steps.isEmpty());
      return;
    }
    try {
      deleteTree(aside);
    } catch (IOException e) {
      throw stillThere(aside, e);
    }
  }

  /**
   * Undoes {@link #open}.
   *
   * @param nothingMade whether what the run wrote is worth nothing
   */
  private static void putBack(Path target, Path aside, boolean nothingMade) {
    try {
      if (Files.exists(aside)) {
        deleteTree(target);
        Files.move(aside, target);
      } else if (nothingMade) {
        deleteTree(target);
      }
    } catch (IOException e) {
      throw stillThere(aside, e);
    }
  }

  private static EnvironmentException stillThere(Path aside, IOException e) {
    return new EnvironmentException(
        aside
            + ": what the run was to replace is still there ("
            + e.getMessage()
            + "); move it yourself",
        e);
  }

  private Series series(String name, ToDoubleFunction<StepReport> value) {
    List<Double> x = new ArrayList<>();
    List<Double> y = new ArrayList<>();
    for (StepReport step : steps) {
      x.add((double) step.step());
      y.add(value.applyAsDouble(step));
    }
    return new Series(name, x, y);
  }

  private static void deleteTree(Path root) throws IOException {
    if (!Files.exists(root)) {
      return;
    }
    try (Stream<Path> tree = Files.walk(root)) {
      for (Path path : tree.sorted(Comparator.reverseOrder()).toList()) {
        Files.delete(path);
      }
    }
  }
}
