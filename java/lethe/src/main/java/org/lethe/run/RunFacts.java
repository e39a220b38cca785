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
import org.lethe.report.RunFiles;

/** A run's directory: what was asked for, how far it came, what it left. */
final class RunFacts {
  private static final ObjectMapper YAML = new YAMLMapper();
  private static final List<String> RESULTS =
      List.of("model", "adapter", "combined", "evaluation", "report.html", "report.md");

  private RunFacts() {}

  static Map<String, Object> of(Path path) {
    RunFiles files = RunFiles.read(path);
    Map<String, Object> facts = new LinkedHashMap<>();
    facts.put("path", path.toString());
    facts.put("bytes", Inspection.treeSize(path));
    facts.put("steps", files.steps().size());
    if (!files.steps().isEmpty()) {
      facts.put("first_loss", files.steps().firstEntry().getValue().loss());
      facts.put("last", last(files.steps().lastEntry().getValue()));
    }
    facts.put("skipped", files.steps().values().stream().filter(u -> !u.applied()).count());
    facts.put("resumes", files.resumes().size());
    List<String> results =
        RESULTS.stream().filter(name -> Files.exists(path.resolve(name))).toList();
    // What was trained is written at the end, whole or not at all.
    facts.put("finished", results.contains("model") || results.contains("adapter"));
    facts.put("results", String.join(", ", results));
    facts.put("checkpoints", checkpoints(path));
    files.after().ifPresent(after -> facts.put("scores", scores(after)));
    facts.put("environment", new LinkedHashMap<>(files.environment()));
    facts.put("config", config(path.resolve("config.yaml")));
    return facts;
  }

  private static Map<String, Object> last(RunFiles.Update update) {
    Map<String, Object> facts = new LinkedHashMap<>();
    facts.put("step", update.step());
    facts.put("loss", update.loss());
    if (update.parts().size() > 1) {
      update.parts().forEach((name, value) -> facts.put("loss." + name, value));
    }
    facts.put("gradient_norm", update.gradientNorm());
    facts.put("learning_rate", update.learningRate());
    facts.put("tokens", update.tokens());
    facts.put("shared_tokens", update.sharedTokens());
    facts.put("applied", update.applied());
    return facts;
  }

  private static long checkpoints(Path path) {
    try (Stream<Path> tree = Files.walk(path, 3)) {
      return tree.filter(p -> p.endsWith(Inspection.MANIFEST)).count();
    } catch (IOException e) {
      throw new UserException(path + ": cannot be read (" + e + "); check its permissions", e);
    }
  }

  private static List<Map<String, Object>> scores(RunFiles.Scores scores) {
    List<Map<String, Object>> rows = new ArrayList<>();
    scores
        .sets()
        .forEach(
            (set, metrics) ->
                metrics.forEach(
                    (metric, score) -> {
                      Map<String, Object> row = new LinkedHashMap<>();
                      row.put("set", set);
                      row.put("metric", metric);
                      row.put("score", score);
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

  private static JsonNode yaml(Path file, String text) {
    try {
      return YAML.readTree(text);
    } catch (JsonProcessingException e) {
      throw new UserException(
          file + ": is not valid YAML (" + e.getOriginalMessage() + "); the file is damaged", e);
    }
  }
}
