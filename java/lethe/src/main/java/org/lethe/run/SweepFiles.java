package org.lethe.run;

import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.StandardCopyOption;
import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.stream.StreamSupport;
import org.lethe.EnvironmentException;
import org.lethe.UserException;
import org.lethe.checkpoint.OutputDirectory;
import org.lethe.config.Config;
import org.lethe.config.Grid;
import org.lethe.config.RunConfig;
import org.lethe.evaluate.Evaluation;

/**
 * The directory of a sweep: {@code config.yaml} that the grid is laid over, {@code sweep.json} that
 * says what was asked, {@code before.json} with the scores of the given model (and {@code
 * before-2.json} and so on where the grid gives several), the leaderboard, and a directory per run.
 * A run that failed has {@code failure.json} in its.
 *
 * @param directory the sweep's
 */
record SweepFiles(Path directory) {
  static final String SWEEP = "sweep.json";
  static final String MARKDOWN = "leaderboard.md";
  static final String HTML = "leaderboard.html";
  private static final String FAILURE = "failure.json";

  /** Writes what a sweep begins with, whole or not at all. */
  void begin(SweepPlan plan, int parallel, boolean overwrite, Map<SweepStart, Evaluation> before) {
    OutputDirectory.write(
        directory,
        overwrite,
        0,
        out -> {
          out.writeString("config.yaml", Config.toYaml(plan.base()));
          out.writeString(SWEEP, json(plan, parallel));
          int number = 1;
          for (Evaluation evaluation : before.values()) {
            out.writeString(before(number), evaluation.json());
            number++;
          }
          out.writeString(RunIdentity.FILE, new RunIdentity(RunIdentity.Task.SWEEP).json());
        });
  }

  private static String before(int number) {
    return number == 1 ? "before.json" : "before-" + number + ".json";
  }

  private static String json(SweepPlan plan, int parallel) {
    Map<String, Object> root = new LinkedHashMap<>();
    root.put("grid", plan.grid().options());
    root.put("parallel", parallel);
    List<Map<String, Object>> runs = new ArrayList<>();
    for (SweepCell cell : plan.cells()) {
      Map<String, Object> run = new LinkedHashMap<>();
      run.put("directory", cell.config().output().getFileName().toString());
      run.put("values", cell.values());
      runs.add(run);
    }
    root.put("runs", runs);
    return new ObjectMapper().valueToTree(root).toPrettyString() + "\n";
  }

  private JsonNode asked() {
    Path file = directory.resolve(SWEEP);
    try {
      return new ObjectMapper().readTree(Files.readString(file));
    } catch (IOException e) {
      throw new UserException(
          file + ": cannot be read (" + e + "); give the output directory of lethe sweep", e);
    }
  }

  /** The grid that the sweep was begun with. */
  Grid grid() {
    return Grid.of(
        StreamSupport.stream(asked().path("grid").spliterator(), false)
            .map(JsonNode::asText)
            .toList());
  }

  /** How many runs were to go side by side. */
  int parallel() {
    return Math.max(1, asked().path("parallel").asInt(1));
  }

  /**
   * Refuses to go on with another sweep than the one that is there.
   *
   * @throws UserException saying what differs
   */
  void requireSame(RunConfig begun, RunConfig base, Grid grid) {
    if (!Files.isRegularFile(directory.resolve(SWEEP))) {
      throw new UserException(
          directory + ": holds a run that is no sweep; choose another output, or lethe resume it");
    }
    boolean sameGrid = grid().options().equals(grid.options());
    if (!sameGrid || !Config.toYaml(begun).equals(Config.toYaml(base))) {
      throw new UserException(
          directory
              + ": the sweep there was begun with another "
              + (sameGrid ? "configuration" : "grid")
              + (sameGrid ? "" : " (" + String.join(" ", grid().options()) + ")")
              + "; go on with that one by lethe resume "
              + directory
              + ", or choose another output");
    }
  }

  /** What the given models scored, by what the runs start from. */
  Map<SweepStart, Evaluation> before(List<SweepCell> cells) {
    Map<SweepStart, Evaluation> before = new LinkedHashMap<>();
    for (SweepStart start : SweepStart.group(cells).keySet()) {
      before.put(start, Evaluation.read(directory.resolve(before(before.size() + 1))));
    }
    return before;
  }

  /** Whether every run has come to an end and the leaderboard is written. */
  boolean isFinished(List<SweepCell> cells) {
    return Files.isRegularFile(directory.resolve(HTML))
        && cells.stream().allMatch(SweepFiles::isDone);
  }

  /** Whether a run has come to its end, be it a failure. */
  static boolean isDone(SweepCell cell) {
    return Resume.finished(cell.config().output()).orElse(false) || failure(cell).isPresent();
  }

  /** Why a run failed, when it did. */
  static Optional<String> failure(SweepCell cell) {
    Path file = cell.config().output().resolve(FAILURE);
    if (!Files.isRegularFile(file)) {
      return Optional.empty();
    }
    try {
      return Optional.of(
          new ObjectMapper().readTree(Files.readString(file)).path("error").asText());
    } catch (IOException e) {
      throw new UserException(
          file + ": cannot be read (" + e + "); delete it, and the run is tried again", e);
    }
  }

  /** Writes down that a run failed: it would again, so it is not tried again. */
  static void fail(SweepCell cell, String message) {
    writeWhole(
        cell.config().output().resolve(FAILURE),
        new ObjectMapper().createObjectNode().put("error", message).toPrettyString() + "\n");
  }

  void write(Leaderboard board) {
    LeaderboardReport report = new LeaderboardReport(board);
    writeWhole(directory.resolve(MARKDOWN), report.markdown());
    writeWhole(directory.resolve(HTML), report.html());
  }

  private static void writeWhole(Path file, String text) {
    Path fresh = file.resolveSibling("." + file.getFileName() + ".new");
    try {
      Files.createDirectories(file.toAbsolutePath().getParent());
      Files.writeString(fresh, text);
      Files.move(fresh, file, StandardCopyOption.ATOMIC_MOVE, StandardCopyOption.REPLACE_EXISTING);
    } catch (IOException e) {
      throw new EnvironmentException(
          file + ": cannot be written (" + e + "); check its permissions and free space", e);
    }
  }
}
