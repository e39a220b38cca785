package org.lethe.checkpoint;

import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.node.ObjectNode;
import java.nio.file.Path;
import java.util.OptionalInt;
import org.lethe.UserException;

/**
 * A JSON object whose keys are taken one by one, so that what was never asked for is found at the
 * end. A null value counts as absent, as it does for Hugging Face's libraries.
 */
final class StrictJson {
  private final Path file;
  private final ObjectNode rest;

  StrictJson(Path file, ObjectNode root) {
    this.file = file;
    this.rest = root.deepCopy();
  }

  UserException error(String key, String what) {
    return new UserException(file + ": key '" + key + "' " + what);
  }

  /** Removes a key; null if it is absent or null. */
  JsonNode take(String key) {
    JsonNode node = rest.remove(key);
    return node == null || node.isNull() ? null : node;
  }

  /** What has not been taken. */
  ObjectNode rest() {
    return rest;
  }

  void requireFalse(String key) {
    JsonNode node = take(key);
    if (node != null && (!node.isBoolean() || node.booleanValue())) {
      throw error(key, "is " + node + "; Lethe supports only false");
    }
  }

  void requireText(String key, String value) {
    JsonNode node = take(key);
    if (node == null || !node.isTextual() || !node.textValue().equals(value)) {
      throw error(
          key,
          (node == null ? "is absent" : "is " + node) + "; Lethe supports only '" + value + "'");
    }
  }

  int positiveInt(String key) {
    OptionalInt value = optionalPositiveInt(key);
    if (value.isEmpty()) {
      throw error(key, "is absent; add it");
    }
    return value.getAsInt();
  }

  OptionalInt optionalPositiveInt(String key) {
    JsonNode node = take(key);
    if (node == null) {
      return OptionalInt.empty();
    }
    if (!node.isInt() || node.intValue() <= 0) {
      throw error(key, "is " + node + "; it must be a positive whole number");
    }
    return OptionalInt.of(node.intValue());
  }

  double positiveDouble(String key) {
    JsonNode node = take(key);
    if (node == null) {
      throw error(key, "is absent; add it");
    }
    return positive(key, node);
  }

  double positive(String key, JsonNode node) {
    double value = node.doubleValue();
    if (!node.isNumber() || !(value > 0) || Double.isInfinite(value)) {
      throw error(key, "is " + node + "; it must be a positive number");
    }
    return value;
  }

  void refuseRest() {
    if (!rest.isEmpty()) {
      throw error(
          rest.fieldNames().next(),
          "is not known to Lethe, which cannot tell whether it changes what the model computes;"
              + " remove it if it does not");
    }
  }
}
