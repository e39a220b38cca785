package org.lethe.checkpoint;

import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.node.ObjectNode;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.Optional;
import java.util.OptionalDouble;
import java.util.OptionalInt;
import java.util.function.Function;
import java.util.function.Predicate;
import org.lethe.UserException;
import org.lethe.model.families.ConfigKeys;

/** The keys of a JSON object, as {@link ConfigKeys} says; nested ones are named with a dot. */
final class JsonConfigKeys implements ConfigKeys {
  private final Path file;
  private final String prefix;
  private final ObjectNode rest;

  JsonConfigKeys(Path file, ObjectNode root) {
    this(file, "", root);
  }

  private JsonConfigKeys(Path file, String prefix, ObjectNode node) {
    this.file = file;
    this.prefix = prefix;
    this.rest = node.deepCopy();
  }

  @Override
  public UserException error(String key, String what) {
    return new UserException(file + ": key '" + prefix + key + "' " + what);
  }

  @Override
  public boolean present(String key) {
    return rest.has(key);
  }

  /** Removes a key; null if it is absent or null. */
  JsonNode take(String key) {
    JsonNode node = rest.remove(key);
    return node == null || node.isNull() ? null : node;
  }

  @Override
  public OptionalInt whole(String key) {
    Optional<JsonNode> node =
        take(key, n -> n.isInt() && n.intValue() > 0, "a positive whole number");
    return node.isEmpty() ? OptionalInt.empty() : OptionalInt.of(node.get().intValue());
  }

  @Override
  public OptionalDouble positive(String key) {
    return number(key, JsonConfigKeys::isPositive, "a positive number");
  }

  @Override
  public OptionalDouble number(String key) {
    return number(key, JsonConfigKeys::isFinite, "a number");
  }

  private OptionalDouble number(String key, Predicate<JsonNode> valid, String what) {
    Optional<JsonNode> node = take(key, valid, what);
    return node.isEmpty() ? OptionalDouble.empty() : OptionalDouble.of(node.get().doubleValue());
  }

  @Override
  public Optional<Boolean> flag(String key) {
    return take(key, JsonNode::isBoolean, "true or false").map(JsonNode::booleanValue);
  }

  @Override
  public Optional<String> text(String key) {
    return take(key, JsonNode::isTextual, "a text").map(JsonNode::textValue);
  }

  @Override
  public Optional<List<String>> texts(String key) {
    return list(key, JsonNode::isTextual, JsonNode::textValue, "a list of texts");
  }

  @Override
  public Optional<List<Double>> numbers(String key) {
    return list(
        key, JsonConfigKeys::isPositive, JsonNode::doubleValue, "a list of positive numbers");
  }

  private <T> Optional<List<T>> list(
      String key, Predicate<JsonNode> valid, Function<JsonNode, T> value, String what) {
    Optional<JsonNode> node = take(key, JsonNode::isArray, what);
    if (node.isEmpty()) {
      return Optional.empty();
    }
    List<T> values = new ArrayList<>();
    for (JsonNode element : node.get()) {
      if (!valid.test(element)) {
        throw error(key, "is " + node.get() + "; it must be " + what);
      }
      values.add(value.apply(element));
    }
    return Optional.of(values);
  }

  @Override
  public Optional<ConfigKeys> object(String key) {
    return take(key, JsonNode::isObject, "an object")
        .map(node -> new JsonConfigKeys(file, prefix + key + ".", (ObjectNode) node));
  }

  @Override
  public void ignore(Iterable<String> keys) {
    keys.forEach(rest::remove);
  }

  @Override
  public void refuseRest() {
    if (!rest.isEmpty()) {
      String key = rest.fieldNames().next();
      throw error(
          key,
          "is "
              + rest.get(key)
              + " and not known to Lethe for this family, so it cannot tell whether it changes what"
              + " the model computes; remove it if it does not");
    }
  }

  private Optional<JsonNode> take(String key, Predicate<JsonNode> valid, String what) {
    JsonNode node = take(key);
    if (node != null && !valid.test(node)) {
      throw error(key, "is " + node + "; it must be " + what);
    }
    return Optional.ofNullable(node);
  }

  private static boolean isFinite(JsonNode node) {
    return node.isNumber() && Double.isFinite(node.doubleValue());
  }

  private static boolean isPositive(JsonNode node) {
    return isFinite(node) && node.doubleValue() > 0;
  }
}
