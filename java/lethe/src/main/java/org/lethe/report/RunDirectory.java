package org.lethe.report;

import com.fasterxml.jackson.core.JsonProcessingException;
import com.fasterxml.jackson.databind.ObjectMapper;
import java.io.IOException;
import java.io.RandomAccessFile;
import java.nio.ByteBuffer;
import java.nio.channels.FileChannel;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.StandardCopyOption;
import java.nio.file.StandardOpenOption;
import java.util.LinkedHashMap;
import java.util.Map;
import java.util.stream.Stream;
import org.lethe.EnvironmentException;
import org.lethe.UserException;

/**
 * The folder of one run: {@code config.yaml} as it was given, {@code environment.json}, {@code
 * metrics.jsonl} growing line by line, {@code report.md} and {@code report.html} at the end. One
 * thread at a time.
 */
public final class RunDirectory implements AutoCloseable {
  private static final String CONFIG = "config.yaml";
  private static final String ENVIRONMENT = "environment.json";
  private static final String METRICS = "metrics.jsonl";

  private final Path directory;
  private final FileChannel metrics;
  private final ObjectMapper mapper = new ObjectMapper();

  private RunDirectory(Path directory, FileChannel metrics) {
    this.directory = directory;
    this.metrics = metrics;
  }

  /**
   * Creates the folder of a new run.
   *
   * @param configYaml text of the configuration
   * @param environment see {@link #environment}
   * @throws UserException if the folder exists and is not empty
   * @throws EnvironmentException if it cannot be written
   */
  public static RunDirectory create(
      Path directory, String configYaml, Map<String, String> environment) {
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
      return new RunDirectory(
          directory,
          FileChannel.open(
              directory.resolve(METRICS), StandardOpenOption.CREATE_NEW, StandardOpenOption.WRITE));
    } catch (IOException e) {
      throw failure(directory, e);
    }
  }

  /**
   * Opens the folder of an earlier run to go on with it. A last line of metrics that a crash left
   * unfinished is cut off.
   *
   * @throws UserException if this is not the folder of a run
   * @throws EnvironmentException if it cannot be written
   */
  public static RunDirectory reopen(Path directory) {
    Path metrics = directory.resolve(METRICS);
    if (!Files.isRegularFile(metrics)) {
      throw new UserException(
          directory + ": has no " + METRICS + "; give the directory of an earlier run");
    }
    try {
      try (RandomAccessFile file = new RandomAccessFile(metrics.toFile(), "rw")) {
        long end = file.length();
        while (end > 0) {
          file.seek(end - 1);
          if (file.read() == '\n') {
            break;
          }
          end--;
        }
        file.setLength(end);
      }
      FileChannel channel = FileChannel.open(metrics, StandardOpenOption.WRITE);
      channel.position(channel.size());
      return new RunDirectory(directory, channel);
    } catch (IOException e) {
      throw failure(directory, e);
    }
  }

  /**
   * The same, keeping only the first bytes of the metrics: what came after them belongs to steps
   * that are done again.
   *
   * @throws UserException if there are fewer
   */
  public static RunDirectory reopen(Path directory, long metricsBytes) {
    Path metrics = directory.resolve(METRICS);
    try (FileChannel file =
        FileChannel.open(metrics, StandardOpenOption.CREATE, StandardOpenOption.WRITE)) {
      if (file.size() < metricsBytes) {
        throw new UserException(
            metrics
                + ": has "
                + file.size()
                + " bytes, but "
                + metricsBytes
                + " belong to the steps that are done; put the file back");
      }
      file.truncate(metricsBytes);
    } catch (IOException e) {
      throw failure(directory, e);
    }
    return reopen(directory);
  }

  /** Bytes of the metrics written so far. */
  public long metricsBytes() {
    try {
      return metrics.position();
    } catch (IOException e) {
      throw failure(directory, e);
    }
  }

  /** The file of the metrics. */
  public Path metricsFile() {
    return directory.resolve(METRICS);
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
   *
   * @param values names and numbers, texts, lists or maps; numbers that are not finite become the
   *     texts "NaN", "Infinity", "-Infinity", for which JSON has no numbers
   * @throws EnvironmentException if it cannot be written
   */
  public void append(Map<String, ?> values) {
    try {
      ByteBuffer line =
          ByteBuffer.wrap(
              (mapper.writeValueAsString(values) + "\n").getBytes(StandardCharsets.UTF_8));
      while (line.hasRemaining()) {
        metrics.write(line);
      }
    } catch (JsonProcessingException e) {
      throw new UserException(
          "metrics cannot be written as JSON ("
              + e.getOriginalMessage()
              + "); give numbers, texts, lists or maps",
          e);
    } catch (IOException e) {
      throw failure(directory, e);
    }
  }

  /**
   * Writes {@code report.md} and {@code report.html}, each whole or not at all.
   *
   * @throws EnvironmentException if they cannot be written
   */
  public void writeReport(ReportData data) {
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

  /** Forces the metrics to the disk and closes them. */
  @Override
  public void close() {
    try (metrics) {
      if (metrics.isOpen()) {
        metrics.force(true);
      }
    } catch (IOException e) {
      throw failure(directory, e);
    }
  }
}
