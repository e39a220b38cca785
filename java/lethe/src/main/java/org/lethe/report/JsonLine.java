package org.lethe.report;

import com.fasterxml.jackson.core.JsonProcessingException;
import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import com.fasterxml.jackson.dataformat.yaml.YAMLMapper;
import java.io.IOException;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import org.lethe.UserException;

/**
 * One object of a file of JSON Lines; every mistake names the file and the line.
 *
 * @param where file and line
 */
record JsonLine(String where, JsonNode node) {
  /** All finished lines. Behind the last line end stands what is still being written. */
  static List<JsonLine> read(Path file) {
    ObjectMapper mapper = new ObjectMapper();
    List<JsonLine> lines = new ArrayList<>();
    String text = text(file);
    int number = 0;
    for (int at = 0, end; (end = text.indexOf('\n', at)) >= 0; at = end + 1) {
      String where = file + ":" + ++number;
      try {
        JsonNode node = mapper.readTree(text.substring(at, end));
        if (!node.isObject()) {
          throw damaged(where, "is not a JSON object", null);
        }
        lines.add(new JsonLine(where, node));
      } catch (JsonProcessingException e) {
        throw damaged(where, "is not JSON (" + e.getOriginalMessage() + ")", e);
      }
    }
    return lines;
  }

  /** A whole file of JSON. */
  static JsonNode json(Path file) {
    return tree(new ObjectMapper(), file);
  }

  /** A whole file of YAML. */
  static JsonNode yaml(Path file) {
    return tree(new YAMLMapper(), file);
  }

  private static JsonNode tree(ObjectMapper mapper, Path file) {
    try {
      return mapper.readTree(text(file));
    } catch (JsonProcessingException e) {
      throw damaged(file.toString(), "cannot be read (" + e.getOriginalMessage() + ")", e);
    }
  }

  private static String text(Path file) {
    try {
      // Not readString: a file cut within a character is no reason to refuse what stands before.
      return new String(Files.readAllBytes(file), StandardCharsets.UTF_8);
    } catch (IOException e) {
      throw damaged(file.toString(), "cannot be read (" + e + ")", e);
    }
  }

  private static UserException damaged(String where, String what, Exception cause) {
    return new UserException(where + ": " + what + "; the file is damaged, bring it back", cause);
  }

  boolean has(String key) {
    return node.has(key);
  }

  List<String> keys() {
    return node.properties().stream().map(Map.Entry::getKey).toList();
  }

  JsonLine inside(String key) {
    return new JsonLine(where + ": " + key, node.path(key));
  }

  /** A number, or one of the texts that stand for numbers which JSON does not have. */
  double number(String key) {
    JsonNode value = node.path(key);
    if (value.isNumber()) {
      return value.doubleValue();
    }
    return switch (value.asText()) {
      case "NaN" -> Double.NaN;
      case "Infinity" -> Double.POSITIVE_INFINITY;
      case "-Infinity" -> Double.NEGATIVE_INFINITY;
      default -> throw damaged(where, key + " is not a number", null);
    };
  }

  long integer(String key) {
    JsonNode value = node.path(key);
    if (!value.isIntegralNumber()) {
      throw damaged(where, key + " is not a whole number", null);
    }
    return value.longValue();
  }

  boolean flag(String key) {
    JsonNode value = node.path(key);
    if (!value.isBoolean()) {
      throw damaged(where, key + " is neither true nor false", null);
    }
    return value.booleanValue();
  }

  /** A text; empty when absent. */
  String text(String key) {
    return node.path(key).asText();
  }

  Map<String, Double> numbers(String key) {
    JsonLine inner = inside(key);
    Map<String, Double> numbers = new LinkedHashMap<>();
    inner.keys().forEach(name -> numbers.put(name, inner.number(name)));
    return numbers;
  }
}
