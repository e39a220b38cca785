package org.lethe.run;

import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Comparator;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.function.Supplier;
import java.util.stream.Stream;
import org.lethe.EnvironmentException;
import org.lethe.UserException;
import org.lethe.checkpoint.CheckpointManifest;
import org.lethe.checkpoint.OutputDirectory;
import org.lethe.config.Config;
import org.lethe.config.RunConfig;
import org.lethe.evaluate.Evaluation;
import org.lethe.kernels.Staging;
import org.lethe.report.RunDirectory;
import org.lethe.report.Timing;
import org.lethe.train.StepReport;

/**
 * The output directory of a training run: config, metrics line by line, report, results. What it
 * replaces is moved aside at the start and deleted only when the run has succeeded; a run that
 * fails puts it back. Where there was nothing to replace, a run that fails leaves the metrics of
 * its steps, or nothing when it made none. A run with a checkpoint stays as it is, since it can go
 * on.
 */
final class RunFolder implements AutoCloseable {
  private final Path target;
  private final Path aside;
  private final RunDirectory directory;
  private final RunLock lock;
  private final List<StepReport> steps = new ArrayList<>();
  private final long began = System.nanoTime();
  private long lastStep = began;
  private boolean succeeded;

  private RunFolder(Path target, Path aside, RunDirectory directory, RunLock lock) {
    this.target = target;
    this.aside = aside;
    this.directory = directory;
    this.lock = lock;
  }

  /**
   * Opens the configured output directory for a run that begins; it must be absent or empty unless
   * it may be overwritten.
   */
  static RunFolder open(RunConfig config, RunIdentity identity, String backend) {
    // A link to a directory stays one: what it points at is replaced.
    Path target = Inputs.real(config.output());
    OutputDirectory.check(config.output(), config.overwrite(), 0);
    Inputs.requireOutside(config);
    if (target.getFileName() == null) {
      throw new UserException(target + ": is the root directory; choose another output");
    }
    Path aside = aside(target);
    if (Files.exists(aside)) {
      throw new UserException(
          aside
              + ": holds what an interrupted run was to replace; go on with that run by lethe"
              + " resume "
              + target
              + ", move it back there, or delete it");
    }
    try {
      if (Files.exists(target)) {
        Files.move(target, aside);
      }
    } catch (IOException e) {
      throw new EnvironmentException(
          target + ": cannot be moved aside (" + e.getMessage() + "); choose another output", e);
    }
    RunLock lock = null;
    try {
      RunDirectory directory =
          RunDirectory.create(
              target,
              Config.toYaml(config),
              RunDirectory.environment(Version.string(), backend),
              config.tensorboard());
      lock = RunLock.take(target);
      identity.write(target);
      return new RunFolder(target, aside, directory, lock);
    } catch (RuntimeException e) {
      if (lock != null) {
        lock.close();
      }
      putBack(target, aside, true);
      throw e;
    }
  }

  /**
   * Opens the directory of a run that was interrupted, to go on with it.
   *
   * @param lock already taken
   * @param step updates that are done
   * @param metrics what of its metrics belongs to them
   */
  static RunFolder reopen(
      RunConfig config, RunLock lock, int step, CheckpointManifest.Metrics metrics) {
    Path target = Inputs.real(config.output());
    RunDirectory directory =
        RunDirectory.reopen(target, metrics.bytes(), metrics.sha256(), config.tensorboard());
    directory.resumed(step, step == 0 ? "there was no checkpoint" : "from its checkpoint");
    return new RunFolder(target, aside(target), directory, lock);
  }

  private static Path aside(Path target) {
    return target.resolveSibling("." + target.getFileName() + ".replaced");
  }

  /** The metrics that have been written: a checkpoint says so, and a resumed run cuts the rest. */
  CheckpointManifest.Metrics metrics() {
    directory.force();
    return new CheckpointManifest.Metrics(directory.metricsBytes(), directory.metricsSha256());
  }

  /** Where checkpoints are. */
  static Path checkpoints(Path run) {
    return run.resolve("checkpoints");
  }

  Path resolve(String name) {
    return target.resolve(name);
  }

  /**
   * Writes a step down.
   *
   * @param nativeBytes what the run holds outside Java's heap
   */
  void step(StepReport report, long nativeBytes) {
    steps.add(report);
    Map<String, Object> line = new LinkedHashMap<>();
    line.put("step", report.step());
    line.put("loss", report.loss());
    line.put("parts", report.parts());
    line.put("gradient_norm", report.gradientNorm());
    line.put("learning_rate", report.learningRate());
    line.put("tokens", report.tokens());
    line.put("shared_tokens", report.sharedTokens());
    line.put("applied", report.applied());
    directory.append(line);
    long now = System.nanoTime();
    directory.timing(
        Timing.now(
            report.step(),
            (now - began) * 1e-9,
            report.tokens() / Math.max(1e-9, (now - lastStep) * 1e-9),
            nativeBytes,
            Staging.allBytes()));
    lastStep = now;
  }

  Path path() {
    return target;
  }

  /**
   * The evaluation before the first step, which is kept for a run that is resumed.
   *
   * @param known when it was measured elsewhere, else null
   */
  Evaluation before(Evaluation known, Supplier<Evaluation> measure) {
    Path file = target.resolve("evaluation-before.json");
    if (known == null && Files.isRegularFile(file)) {
      return Evaluation.read(file);
    }
    Evaluation evaluation = known != null ? known : measure.get();
    directory.write("evaluation-before.json", evaluation.json());
    return evaluation;
  }

  /** Scores in the middle of the run. */
  void evaluation(int stepsDone, Evaluation evaluation) {
    directory.evaluation(stepsDone, evaluation.sets(), evaluation.utility());
  }

  /** Writes the report; afterwards the run has succeeded. */
  void succeed() {
    directory.writeReport();
    succeeded = true;
  }

  List<StepReport> steps() {
    return steps;
  }

  /** Whether a run that ends now can go on. */
  private boolean canGoOn() {
    return Files.isDirectory(checkpoints(target));
  }

  @Override
  public void close() {
    directory.close();
    lock.close();
    if (!succeeded) {
      // What the run was to replace stays aside until it has gone on to its end.
      if (!canGoOn()) {
        putBack(target, aside, steps.isEmpty());
      }
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

  static void deleteTree(Path root) throws IOException {
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
