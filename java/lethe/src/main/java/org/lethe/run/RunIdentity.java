package org.lethe.run;

import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Locale;
import org.lethe.EnvironmentException;
import org.lethe.UserException;

/**
 * What kind of run a directory holds: {@code run.json}.
 *
 * @param task what was asked for
 */
public record RunIdentity(Task task) {
  static final String FILE = "run.json";

  /** The verb of a run. */
  public enum Task {
    FINETUNE,
    UNLEARN,
    PHASES,
    SWEEP
  }

  /** The text of the file. */
  String json() {
    return new ObjectMapper()
            .createObjectNode()
            .put("task", task.name().toLowerCase(Locale.ROOT))
            .put("lethe", Version.string())
            .toPrettyString()
        + "\n";
  }

  /** Writes it into a run's directory. */
  void write(Path directory) {
    try {
      Files.writeString(directory.resolve(FILE), json());
    } catch (IOException e) {
      throw new EnvironmentException(
          directory + ": cannot be written (" + e + "); check its permissions and free space", e);
    }
  }

  /** Whether a directory is a run's. */
  public static boolean isThere(Path directory) {
    return Files.isRegularFile(directory.resolve(FILE));
  }

  /**
   * Reads a run's directory.
   *
   * @throws UserException if it is none
   */
  public static RunIdentity read(Path directory) {
    Path file = directory.resolve(FILE);
    try {
      JsonNode root = new ObjectMapper().readTree(Files.readString(file));
      String task = root.path("task").asText().toUpperCase(Locale.ROOT);
      return new RunIdentity(Task.valueOf(task));
    } catch (IOException | IllegalArgumentException e) {
      throw new UserException(
          directory
              + ": is no directory of a run: "
              + FILE
              + " is missing or damaged; give the output directory of finetune, unlearn or run",
          e);
    }
  }
}
