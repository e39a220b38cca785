package org.lethe.run;

import com.fasterxml.jackson.core.JsonProcessingException;
import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import com.fasterxml.jackson.dataformat.yaml.YAMLMapper;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.stream.Stream;
import org.lethe.UserException;
import org.lethe.config.Config;
import org.lethe.config.RunConfig;

/** A run's directory: what was asked for, how far it came, what it left. */
final class RunFacts {
  private static final ObjectMapper JSON = new ObjectMapper();
  private static final ObjectMapper YAML = new YAMLMapper();
  private static final List<String> RESULTS =
      List.of("model", "adapter", "evaluation", "report.html", "report.md");

  private RunFacts() {}

  static Map<String, Object> of(Path path) {
    Map<String, Object> facts = new LinkedHashMap<>();
    facts.put("path", path.toString());
    facts.put("bytes", Inspection.treeSize(path));
    metrics(path.resolve("metrics.jsonl"), facts);
    List<String> results =
        RESULTS.stream().filter(name -> Files.exists(path.resolve(name))).toList();
    // The report is the last thing that a run writes.
    facts.put("finished", results.contains("report.md"));
    facts.put("results", String.join(", ", results));
    facts.put("checkpoints", checkpoints(path));
    Path evaluation = path.resolve("evaluation").resolve("evaluation.json");
    if (Files.exists(evaluation)) {
      facts.put("scores", scores(json(evaluation, read(evaluation))));
    }
    Path environment = path.resolve("environment.json");
    if (Files.exists(environment)) {
      facts.put("environment", map(json(environment, read(environment))));
    }
    facts.put("config", config(path.resolve("config.yaml")));
    return facts;
  }

  private static void metrics(Path file, Map<String, Object> facts) {
    List<String> lines = read(file).lines().filter(line -> !line.isBlank()).toList();
    facts.put("steps", lines.size());
    if (lines.isEmpty()) {
      return;
    }
    int last = lines.size();
    JsonNode line = null;
    while (line == null && last > 0) {
      // A run that was killed may leave half a line behind.
      line = lastLine(lines.get(--last));
    }
    if (line == null) {
      throw new UserException(file + ": holds no line of metrics; the file is damaged");
    }
    facts.put("steps", last + 1);
    facts.put("first_loss", json(file, lines.get(0)).path("loss").asDouble(Double.NaN));
    facts.put("last", map(line));
  }

  private static JsonNode lastLine(String line) {
    try {
      return JSON.readTree(line);
    } catch (JsonProcessingException e) {
      return null;
    }
  }

  private static long checkpoints(Path path) {
    try (Stream<Path> tree = Files.walk(path, 3)) {
      return tree.filter(p -> p.endsWith(Inspection.MANIFEST)).count();
    } catch (IOException e) {
      throw new UserException(path + ": cannot be read (" + e + "); check its permissions", e);
    }
  }

  private static List<Map<String, Object>> scores(JsonNode evaluation) {
    List<Map<String, Object>> rows = new ArrayList<>();
    evaluation
        .path("sets")
        .properties()
        .forEach(
            set ->
                set.getValue()
                    .properties()
                    .forEach(
                        score -> {
                          Map<String, Object> row = new LinkedHashMap<>();
                          row.put("set", set.getKey());
                          row.put("metric", score.getKey());
                          row.put("score", score.getValue().asDouble(Double.NaN));
                          rows.add(row);
                        }));
    return rows;
  }

  /** The keys whose values are not the defaults. */
  private static Map<String, Object> config(Path file) {
    Map<String, Object> defaults = new LinkedHashMap<>();
    flatten(
        "", yaml(file, Config.toYaml(Config.of(RunConfig.class, List.of("output=x")))), defaults);
    Map<String, Object> given = new LinkedHashMap<>();
    flatten("", yaml(file, read(file)), given);
    given.entrySet().removeIf(e -> e.getValue().equals(defaults.get(e.getKey())));
    return given;
  }

  private static void flatten(String prefix, JsonNode node, Map<String, Object> into) {
    node.properties()
        .forEach(
            entry -> {
              String key = prefix.isEmpty() ? entry.getKey() : prefix + "." + entry.getKey();
              if (entry.getValue().isObject()) {
                flatten(key, entry.getValue(), into);
              } else {
                into.put(key, value(entry.getValue()));
              }
            });
  }

  private static Map<String, Object> map(JsonNode node) {
    Map<String, Object> map = new LinkedHashMap<>();
    flatten("", node, map);
    return map;
  }

  private static Object value(JsonNode node) {
    if (node.isNumber()) {
      return node.numberValue();
    }
    return node.isBoolean()
        ? (Object) node.booleanValue()
        : node.isTextual() ? node.textValue() : node.toString();
  }

  private static String read(Path file) {
    try {
      return Files.readString(file);
    } catch (IOException e) {
      throw new UserException(file + ": cannot be read (" + e + "); check its permissions", e);
    }
  }

  private static JsonNode json(Path file, String text) {
    try {
      return JSON.readTree(text);
    } catch (JsonProcessingException e) {
      throw new UserException(
          file + ": is not valid JSON (" + e.getOriginalMessage() + "); the file is damaged", e);
    }
  }

  private static JsonNode yaml(Path file, String text) {
    try {
      return YAML.readTree(text);
    } catch (JsonProcessingException e) {
      throw new UserException(
          file + ": is not valid YAML (" + e.getOriginalMessage() + "); the file is damaged", e);
    }
  }
}
