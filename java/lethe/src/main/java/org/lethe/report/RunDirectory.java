package org.lethe.report;

import com.fasterxml.jackson.databind.ObjectMapper;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.StandardCopyOption;
import java.time.Clock;
import java.time.Instant;
import java.time.temporal.ChronoUnit;
import java.util.LinkedHashMap;
import java.util.Map;
import java.util.stream.Stream;
import org.lethe.EnvironmentException;
import org.lethe.UserException;

/**
 * The folder of one run. One thread at a time. It holds
 *
 * <ul>
 *   <li>{@code config.yaml} as it was given, {@code environment.json};
 *   <li>{@code metrics.jsonl}: what the same inputs give to the bit, a line per step and per
 *       evaluation. A run that goes on from a checkpoint cuts it back to the checkpoint;
 *   <li>{@code timings.jsonl}: what no two runs share, such as seconds and memory; never cut back;
 *   <li>{@code tensorboard/}: both for {@code tensorboard --logdir}, unless switched off. A run
 *       that goes on begins a new event file there; what older files say of steps that are made
 *       again is dropped by TensorBoard ({@link #resumed}), and a step it shows twice has the same
 *       values twice;
 *   <li>{@code report.md}, {@code report.html} at the end, made from the files above.
 * </ul>
 */
public final class RunDirectory implements AutoCloseable {
  static final String CONFIG = "config.yaml";
  static final String ENVIRONMENT = "environment.json";
  static final String METRICS = "metrics.jsonl";
  static final String TIMINGS = "timings.jsonl";
  static final String TENSOR_BOARD = "tensorboard";

  private final Path directory;
  private final LineFile metrics;
  private final LineFile timings;
  private final RunEvents events;

  private RunDirectory(Path directory, LineFile metrics, LineFile timings, RunEvents events) {
    this.directory = directory;
    this.metrics = metrics;
    this.timings = timings;
    this.events = events;
  }

  /** Creates the folder of a new run, with event files for TensorBoard. */
  public static RunDirectory create(
      Path directory, String configYaml, Map<String, String> environment) {
    return create(directory, configYaml, environment, true);
  }

  /**
   * Creates the folder of a new run.
   *
   * @param configYaml text of the configuration
   * @param environment see {@link #environment}
   * @param tensorBoard whether event files are written, too
   * @throws UserException if the folder exists and is not empty
   * @throws EnvironmentException if it cannot be written
   */
  public static RunDirectory create(
      Path directory, String configYaml, Map<String, String> environment, boolean tensorBoard) {
    try {
      if (Files.exists(directory) && (!Files.isDirectory(directory) || !isEmpty(directory))) {
        throw new UserException(
            directory + ": exists and is not an empty directory; choose another for this run");
      }
      Files.createDirectories(directory);
      writeWhole(directory.resolve(CONFIG), configYaml);
      writeWhole(
          directory.resolve(ENVIRONMENT),
          new ObjectMapper().valueToTree(new LinkedHashMap<>(environment)).toPrettyString() + "\n");
      RunEvents events = events(directory, tensorBoard);
      events.text("config", configYaml);
      return open(directory, LineFile.create(directory.resolve(METRICS)), events);
    } catch (IOException e) {
      throw failure(directory, e);
    }
  }

  /**
   * Opens the folder of an earlier run to go on behind its last line. A last line that a crash left
   * unfinished is cut off.
   *
   * @throws UserException if this is not the folder of a run
   * @throws EnvironmentException if it cannot be written
   */
  public static RunDirectory reopen(Path directory) {
    Path metrics = metricsOf(directory);
    try {
      return open(directory, LineFile.reopen(metrics), events(directory, true));
    } catch (IOException e) {
      throw failure(directory, e);
    }
  }

  /**
   * The same behind the first bytes of the metrics, with event files for TensorBoard.
   *
   * @see #reopen(Path, long, String, boolean)
   */
  public static RunDirectory reopen(Path directory, long metricsBytes) {
    return reopen(directory, metricsBytes, null, true);
  }

  /**
   * Opens the folder of an earlier run to go on from a checkpoint: what the metrics hold behind its
   * first bytes is cut off, unless the call fails.
   *
   * @param metricsBytes what {@link #metricsBytes} said at the checkpoint
   * @param metricsSha256 what {@link #metricsSha256} said there; null: not compared
   * @param tensorBoard whether event files are written, too
   * @throws UserException if this is not the folder of a run, or its metrics are shorter or others
   * @throws EnvironmentException if it cannot be written
   */
  public static RunDirectory reopen(
      Path directory, long metricsBytes, String metricsSha256, boolean tensorBoard) {
    Path metrics = metricsOf(directory);
    try {
      return open(
          directory,
          LineFile.reopen(metrics, metricsBytes, metricsSha256),
          events(directory, tensorBoard));
    } catch (IOException e) {
      throw failure(directory, e);
    }
  }

  private static Path metricsOf(Path directory) {
    Path metrics = directory.resolve(METRICS);
    if (!Files.isRegularFile(metrics)) {
      throw new UserException(
          directory + ": has no " + METRICS + "; give the directory of an earlier run");
    }
    return metrics;
  }

  private static RunEvents events(Path directory, boolean tensorBoard) {
    return tensorBoard
        ? RunEvents.under(directory.resolve(TENSOR_BOARD), Clock.systemUTC())
        : RunEvents.none();
  }

  private static RunDirectory open(Path directory, LineFile metrics, RunEvents events)
      throws IOException {
    try {
      return new RunDirectory(
          directory, metrics, LineFile.reopen(directory.resolve(TIMINGS)), events);
    } catch (IOException | RuntimeException e) {
      metrics.close();
      throw e;
    }
  }

  /**
   * Facts that a result depends on. Names nothing of the machine's owner: no host, path or
   * variable.
   *
   * @param letheVersion version of Lethe
   * @param backend what the backend says of itself and its device
   */
  public static Map<String, String> environment(String letheVersion, String backend) {
    Map<String, String> facts = new LinkedHashMap<>();
    facts.put("lethe", letheVersion);
    facts.put("backend", backend);
    facts.put("java", Runtime.version().toString());
    facts.put("os", System.getProperty("os.name"));
    facts.put("arch", System.getProperty("os.arch"));
    facts.put("processors", Integer.toString(Runtime.getRuntime().availableProcessors()));
    return facts;
  }

  private static boolean isEmpty(Path directory) throws IOException {
    try (Stream<Path> entries = Files.list(directory)) {
      return entries.findAny().isEmpty();
    }
  }

  /** The folder. */
  public Path path() {
    return directory;
  }

  /**
   * Appends a line to {@code metrics.jsonl}; it is with the operating system when the call returns.
   * Its numbers go to TensorBoard, too, when it has a {@code step}.
   *
   * @param values names and numbers, texts, lists or maps; numbers that are not finite become the
   *     texts "NaN", "Infinity", "-Infinity", for which JSON has no numbers
   * @throws EnvironmentException if it cannot be written
   */
  public void append(Map<String, ?> values) {
    metrics.append(values);
    events.scalars("train", values);
  }

  /**
   * Appends an evaluation to {@code metrics.jsonl}: {@code {"step", "evaluation", "utility"}}.
   *
   * @param step updates that were made before it
   * @param sets scores by set and metric
   * @param utility NaN when it was not measured
   * @throws EnvironmentException if it cannot be written
   */
  public void evaluation(long step, Map<String, Map<String, Double>> sets, double utility) {
    Map<String, Object> line = new LinkedHashMap<>();
    line.put("step", step);
    line.put("evaluation", sets);
    line.put("utility", utility);
    metrics.append(line);
    Map<String, Object> scores = new LinkedHashMap<>(sets);
    scores.put("step", step);
    scores.put("utility", utility);
    events.scalars("evaluation", scores);
  }

  /**
   * Appends a line to {@code timings.jsonl}.
   *
   * @throws EnvironmentException if it cannot be written
   */
  public void timing(Timing timing) {
    Map<String, Object> line = timing.line();
    timings.append(line);
    events.scalars("machine", line);
  }

  /**
   * Notes that the run goes on from a checkpoint: a line {@code {"resumed_at", "time", "why"}} in
   * {@code timings.jsonl}, and a mark by which TensorBoard drops what was made behind it.
   *
   * @param step updates that the checkpoint had seen
   * @param why what the report says of it, such as "after signal TERM"
   * @throws EnvironmentException if it cannot be written
   */
  public void resumed(long step, String why) {
    Map<String, Object> line = new LinkedHashMap<>();
    line.put("resumed_at", step);
    line.put("time", Instant.now().truncatedTo(ChronoUnit.SECONDS).toString());
    line.put("why", why);
    timings.append(line);
    events.restart(step);
  }

  /** Length of {@code metrics.jsonl}, for a checkpoint. */
  public long metricsBytes() {
    return metrics.bytes();
  }

  /** SHA-256 of {@code metrics.jsonl} as it is now, in hexadecimal; its cost is constant. */
  public String metricsSha256() {
    return metrics.sha256();
  }

  /**
   * Returns when the metrics are on the disk: call it before a checkpoint that refers to them.
   *
   * @throws EnvironmentException if they cannot be written
   */
  public void force() {
    metrics.force();
  }

  /**
   * Writes {@code report.md} and {@code report.html} from the run's files.
   *
   * @return what they show
   * @throws EnvironmentException if they cannot be written
   */
  public ReportData writeReport() {
    ReportData data = Report.of(directory);
    writeReport(data);
    return data;
  }

  /**
   * Writes {@code report.md} and {@code report.html}, each whole or not at all.
   *
   * @throws EnvironmentException if they cannot be written
   */
  public void writeReport(ReportData data) {
    write(directory, data);
  }

  static void write(Path directory, ReportData data) {
    try {
      writeWhole(directory.resolve("report.md"), Report.markdown(data));
      writeWhole(directory.resolve("report.html"), Report.html(data));
    } catch (IOException e) {
      throw failure(directory, e);
    }
  }

  /**
   * Writes a text file, whole or not at all.
   *
   * @throws EnvironmentException if it cannot be written
   */
  public void write(String name, String text) {
    try {
      writeWhole(directory.resolve(name), text);
    } catch (IOException e) {
      throw failure(directory, e);
    }
  }

  private static void writeWhole(Path file, String text) throws IOException {
    Path fresh = file.resolveSibling("." + file.getFileName() + ".new");
    try {
      Files.writeString(fresh, text);
      Files.move(fresh, file, StandardCopyOption.ATOMIC_MOVE);
    } finally {
      Files.deleteIfExists(fresh);
    }
  }

  private static EnvironmentException failure(Path directory, IOException e) {
    return new EnvironmentException(
        directory + ": cannot be written (" + e + "); check its permissions and free space", e);
  }

  /** Forces the metrics and timings to the disk and closes everything. */
  @Override
  public void close() {
    try (events;
        timings;
        metrics) {
      // Closed in reverse order, each also when another fails.
    }
  }
}
