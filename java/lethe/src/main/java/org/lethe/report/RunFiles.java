package org.lethe.report;

import com.fasterxml.jackson.databind.JsonNode;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.NavigableMap;
import java.util.Optional;
import java.util.TreeMap;
import org.lethe.UserException;
import org.lethe.evaluate.Evaluation;

/**
 * What the files of a run say, finished or not. A last line that is still being written is left
 * out; of lines for the same step the last one counts, since a run that goes on makes steps again.
 *
 * @param directory of the run
 * @param settings {@code config.yaml} by key path, such as {@code train.steps}; the items of a list
 *     stand behind each other with a comma between them, what is not set is left out
 * @param environment {@code environment.json}; empty when absent
 * @param steps by number
 * @param evaluations made during the run, by the updates before them
 * @param timings by step
 * @param resumes in the order in which they happened
 * @param before {@code evaluation-before.json}: the model as it was given
 * @param after {@code evaluation/evaluation.json}: the model as the run left it
 */
public record RunFiles(
    Path directory,
    Map<String, String> settings,
    Map<String, String> environment,
    NavigableMap<Long, Update> steps,
    NavigableMap<Long, Scores> evaluations,
    NavigableMap<Long, Timing> timings,
    List<Resume> resumes,
    Optional<Scores> before,
    Optional<Scores> after) {
  static final String BEFORE = "evaluation-before.json";
  static final Path AFTER = Path.of("evaluation", "evaluation.json");

  /**
   * One update, as its line in {@code metrics.jsonl} has it.
   *
   * @param step from 0
   * @param loss the objective before the update
   * @param parts each loss's own value by name, before its coefficient
   * @param gradientNorm global norm before the clip
   * @param tokens that went through the model
   * @param sharedTokens that did not, since they stand at the beginning of another sequence
   * @param applied false when something was not finite and the parameters were left as they were
   */
  public record Update(
      long step,
      double loss,
      Map<String, Double> parts,
      double gradientNorm,
      double learningRate,
      long tokens,
      long sharedTokens,
      boolean applied) {}

  /**
   * What a model was judged to be.
   *
   * @param sets scores by set and metric
   * @param utility NaN when it was not measured
   */
  public record Scores(Map<String, Map<String, Double>> sets, double utility) {
    /** A score; NaN when the set or metric was not measured. */
    public double score(String set, String metric) {
      return sets.getOrDefault(set, Map.of()).getOrDefault(metric, Double.NaN);
    }
  }

  /**
   * That the run was stopped and went on.
   *
   * @param step updates that were made when it went on
   * @param time when, in ISO 8601, UTC; empty when it is not known
   * @param why in words; empty when it is not known
   */
  public record Resume(long step, String time, String why) {}

  /** Whether a directory holds what a run leaves behind. */
  public static boolean isRun(Path directory) {
    return Files.isRegularFile(directory.resolve(RunDirectory.METRICS));
  }

  /**
   * Reads a run.
   *
   * @throws UserException if this is not the directory of a run, or one of its files is damaged:
   *     the message names file and line
   */
  public static RunFiles read(Path directory) {
    Path metrics = directory.resolve(RunDirectory.METRICS);
    if (!isRun(directory)) {
      throw new UserException(
          directory
              + ": has no "
              + RunDirectory.METRICS
              + "; give the output directory of a finetune or unlearn run");
    }
    NavigableMap<Long, Update> steps = new TreeMap<>();
    NavigableMap<Long, Scores> evaluations = new TreeMap<>();
    for (JsonLine line : JsonLine.read(metrics)) {
      if (line.has("evaluation")) {
        evaluations.put(
            line.integer("step"),
            new Scores(scores(line), line.has("utility") ? line.number("utility") : Double.NaN));
      } else if (line.has("loss")) {
        steps.put(line.integer("step"), update(line));
      }
    }
    NavigableMap<Long, Timing> timings = new TreeMap<>();
    List<Resume> resumes = new ArrayList<>();
    Path times = directory.resolve(RunDirectory.TIMINGS);
    if (Files.exists(times)) {
      for (JsonLine line : JsonLine.read(times)) {
        if (line.has("resumed_at")) {
          resumes.add(new Resume(line.integer("resumed_at"), line.text("time"), line.text("why")));
        } else if (line.has("seconds")) {
          timings.put(line.integer("step"), timing(line));
        }
      }
    }
    return new RunFiles(
        directory,
        settings(directory.resolve(RunDirectory.CONFIG)),
        environment(directory.resolve(RunDirectory.ENVIRONMENT)),
        steps,
        evaluations,
        timings,
        List.copyOf(resumes),
        evaluation(directory.resolve(BEFORE)),
        evaluation(directory.resolve(AFTER)));
  }

  private static Update update(JsonLine line) {
    return new Update(
        line.integer("step"),
        line.number("loss"),
        line.has("parts") ? line.numbers("parts") : Map.of(),
        line.number("gradient_norm"),
        line.number("learning_rate"),
        line.integer("tokens"),
        line.has("shared_tokens") ? line.integer("shared_tokens") : 0,
        line.flag("applied"));
  }

  private static Map<String, Map<String, Double>> scores(JsonLine line) {
    Map<String, Map<String, Double>> sets = new LinkedHashMap<>();
    JsonLine evaluation = line.inside("evaluation");
    evaluation.keys().forEach(set -> sets.put(set, evaluation.numbers(set)));
    return sets;
  }

  private static Timing timing(JsonLine line) {
    return new Timing(
        line.integer("step"),
        line.number("seconds"),
        line.number("tokens_per_second"),
        bytes(line, "resident_bytes"),
        bytes(line, "heap_bytes"),
        bytes(line, "native_bytes"),
        bytes(line, "pointer_bytes"));
  }

  private static long bytes(JsonLine line, String key) {
    return line.has(key) ? line.integer(key) : Timing.UNKNOWN;
  }

  private static Optional<Scores> evaluation(Path file) {
    if (!Files.exists(file)) {
      return Optional.empty();
    }
    Evaluation evaluation = Evaluation.read(file);
    return Optional.of(new Scores(evaluation.sets(), evaluation.utility()));
  }

  private static Map<String, String> environment(Path file) {
    Map<String, String> facts = new LinkedHashMap<>();
    if (Files.exists(file)) {
      JsonLine.json(file).properties().forEach(e -> facts.put(e.getKey(), e.getValue().asText()));
    }
    return facts;
  }

  private static Map<String, String> settings(Path file) {
    Map<String, String> settings = new LinkedHashMap<>();
    if (Files.exists(file)) {
      flatten("", JsonLine.yaml(file), settings);
    }
    return settings;
  }

  private static void flatten(String path, JsonNode node, Map<String, String> settings) {
    if (node.isObject()) {
      String prefix = path.isEmpty() ? "" : path + ".";
      node.properties().forEach(e -> flatten(prefix + e.getKey(), e.getValue(), settings));
    } else if (node.isArray()) {
      List<String> items = new ArrayList<>();
      node.forEach(item -> items.add(item.isValueNode() ? item.asText() : item.toString()));
      if (!items.isEmpty()) {
        settings.put(path, String.join(", ", items));
      }
    } else if (!node.isNull() && !path.isEmpty()) {
      settings.put(path, node.asText());
    }
  }
}
