package org.lethe.config;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertTrue;

import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import com.fasterxml.jackson.dataformat.yaml.YAMLMapper;
import java.io.IOException;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.Optional;
import java.util.Set;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;
import org.junit.jupiter.params.provider.ValueSource;

class JsonSchemaTest {
  private static final Set<String> KNOWN =
      Set.of(
          "$schema",
          "$defs",
          "$ref",
          "title",
          "type",
          "properties",
          "additionalProperties",
          "required",
          "description",
          "default",
          "anyOf",
          "items",
          "enum",
          "minLength",
          "minimum",
          "exclusiveMinimum",
          "exclusiveMaximum");

  enum Shade {
    LIGHT_GREY,
    BLACK
  }

  record Phase(
      @Doc("How often") @Default("2") int rounds,
      String name,
      @Default("[]") List<Phase> inner,
      @Default("black") Shade shade) {
    Phase {
      Check.atLeast("rounds", 1, rounds);
    }
  }

  record Plan(
      @Default("[1.5, 2]") List<Double> rates,
      @Default("[]") List<Phase> phases,
      Optional<Phase> last,
      Optional<Integer> limit,
      @Default("0.5") double share,
      Path place,
      boolean wanted) {
    Plan {
      Check.fraction("share", share);
      limit.ifPresent(value -> Check.atLeast("limit", 300, value));
    }
  }

  private final JsonNode schema = read(JsonSchema.of(RunConfig.class, "A run"));

  private static JsonNode read(String json) {
    try {
      return new ObjectMapper().readTree(json);
    } catch (IOException e) {
      throw new AssertionError(e);
    }
  }

  private static JsonNode yaml(String text) {
    try {
      return new YAMLMapper().readTree(text);
    } catch (IOException e) {
      throw new AssertionError(e);
    }
  }

  /** The schema of a key, with references followed and the "or nothing" taken off. */
  private JsonNode at(String path) {
    JsonNode node = schema;
    for (String key : path.split("\\.", -1)) {
      node = node.path("properties").path(key);
      node = node.has("anyOf") ? node.path("anyOf").path(0) : node;
      node = node.has("$ref") ? schema.at(node.path("$ref").asText().substring(1)) : node;
    }
    return node;
  }

  @Test
  void itsOwnStructureIsThatOfTheDraft() {
    assertEquals("https://json-schema.org/draft/2020-12/schema", schema.path("$schema").asText());
    assertEquals("[\"output\"]", schema.path("required").toString());
    walk(schema, schema);
  }

  private static void walk(JsonNode root, JsonNode node) {
    node.properties().forEach(e -> assertTrue(KNOWN.contains(e.getKey()), e.getKey()));
    if (node.has("$ref")) {
      assertTrue(root.at(node.path("$ref").asText().substring(1)).isObject(), node.toString());
    }
    if (node.path("additionalProperties").isObject()) {
      walk(root, node.path("additionalProperties"));
    } else if (node.path("type").asText().equals("object")) {
      assertEquals("false", node.path("additionalProperties").toString());
      assertTrue(node.path("properties").size() > 0);
    }
    node.path("properties").forEach(child -> walk(root, child));
    node.path("$defs").forEach(child -> walk(root, child));
    node.path("anyOf").forEach(child -> walk(root, child));
    if (node.has("items")) {
      walk(root, node.path("items"));
    }
  }

  @Test
  void everyKeyIsThereAndExplained() {
    for (String path : Schema.paths(RunConfig.class, "")) {
      assertTrue(at(path).isObject(), path);
    }
    Set<String> leaves = KeyPaths.of(RunConfig.class).keySet();
    assertTrue(leaves.size() > 40, leaves.toString());
    for (String path : leaves) {
      assertTrue(at(path).has("type"), path);
    }
    assertEquals(List.of("fp32", "bf16"), KeyPaths.of(RunConfig.class).get("dtype"));
    assertEquals(List.of("true", "false"), KeyPaths.of(RunConfig.class).get("overwrite"));
  }

  @Test
  void rangesAreThoseOfTheConstructors() {
    assertEquals(1, at("train.batch_size").path("minimum").asLong(-1));
    assertEquals(0, at("threads").path("minimum").asLong(-1));
    assertEquals(0, at("train.learning_rate").path("exclusiveMinimum").asDouble(-1));
    assertEquals(0, at("train.adam_beta2").path("minimum").asDouble(-1));
    assertEquals(1, at("train.adam_beta2").path("exclusiveMaximum").asDouble(-1));
    assertEquals(300, at("scratch.vocabulary").path("minimum").asLong(-1));
    assertEquals(4097, at("threads").path("exclusiveMaximum").asLong(-1));
    assertFalse(at("seed").has("minimum"));
    assertEquals("[\"truncate\",\"refuse\"]", at("data.on_too_long").path("enum").toString());
    assertEquals("array", at("data.forget").path("type").asText());
  }

  @Test
  void whatLetheWritesIsValid() {
    JsonNode yaml =
        yaml(
            Config.toYaml(
                Config.of(
                    RunConfig.class,
                    List.of("output=o", "data.forget=[a.jsonl]", "scratch.layers=2"))));
    assertEquals(List.of(), faults(schema, schema, yaml, ""));
    String commented = Config.toCommentedYaml(Config.of(RunConfig.class, List.of("output=o")));
    assertEquals(List.of(), faults(schema, schema, yaml(commented), ""));
  }

  @ParameterizedTest
  @CsvSource(
      delimiter = '|',
      value = {
        "model: m                                | output is missing",
        "{output: o, trian: {}}                  | trian is unknown",
        "{output: o, train: {batch_size: 0}}     | train.batch_size is below 1",
        "{output: o, train: {batch_size: '1'}}   | train.batch_size is no integer",
        "{output: o, train: {learning_rate: 0}}  | train.learning_rate is not above 0",
        "{output: o, train: {adam_beta1: 1}}     | train.adam_beta1 is not below 1",
        "{output: o, dtype: fp64}                | dtype is none of",
        "{output: o, data: {forget: a.jsonl}}    | data.forget is no array",
        "{output: o, data: {forget: [1]}}        | data.forget[0] is no string",
        "{output: o, lora: {rnk: 1}}             | lora.rnk is unknown",
        "{output: o, memory: {budget: 1.5}}      | memory.budget is no string and memory.budget is",
        "{output: o, phases: [{name: a}]}        | phases[0].task is missing",
        "{output: o, phases: [{repeat: 2, phases: [{task: evil}]}]} | phases[0].phases[0].task is"
      })
  void whatLetheRefusesIsNot(String text, String fault) {
    List<String> faults = faults(schema, schema, yaml(text), "");
    assertEquals(1, faults.size(), faults.toString());
    assertTrue(faults.get(0).startsWith(fault), faults.toString());
  }

  @ParameterizedTest
  @ValueSource(strings = {"8GB", "'8000000000'", "8000000000"})
  void amountsOfMemoryAreTextsOrNumbersOfBytes(String amount) {
    JsonNode value = yaml("{output: o, memory: {budget: " + amount + "}}");
    assertEquals(List.of(), faults(schema, schema, value, ""));
  }

  @Test
  void phasesMayBeGrouped() {
    JsonNode value =
        yaml(
            "{output: o, phases: [{task: unlearn, train: {epochs: 2}}, {repeat: 2, phases:"
                + " [{repeat: 3, phases: [{task: evaluate}]}, {chunks: 4, phases: [{task:"
                + " unlearn}]}]}]}");
    assertEquals(List.of(), faults(schema, schema, value, ""));
  }

  @Test
  void anyRecordHasASchema() {
    JsonNode plan = read(JsonSchema.of(Plan.class, "A plan"));
    walk(plan, plan);
    assertEquals("[\"place\",\"wanted\"]", plan.path("required").toString());
    assertEquals("[1.5,2.0]", plan.at("/properties/rates/default").toString());
    assertEquals(1, plan.at("/properties/share/exclusiveMaximum").asDouble());
    assertEquals(300, plan.at("/properties/limit/anyOf/0/minimum").asInt());
    assertEquals("#/$defs/Phase", plan.at("/properties/phases/items/$ref").asText());
    JsonNode phase = plan.at("/$defs/Phase");
    assertEquals("[\"name\"]", phase.path("required").toString());
    assertEquals(1, phase.at("/properties/rounds/minimum").asInt());
    assertEquals("#/$defs/Phase", phase.at("/properties/inner/items/$ref").asText());
    assertEquals("black", phase.at("/properties/shade/default").asText());
    JsonNode good =
        yaml("{place: p, wanted: true, phases: [{name: a, inner: [{name: b, rounds: 3}]}]}");
    assertEquals(List.of(), faults(plan, plan, good, ""));
    JsonNode bad = yaml("{place: p, wanted: true, phases: [{name: a, inner: [{rounds: 0}]}]}");
    assertEquals(2, faults(plan, plan, bad, "").size());
  }

  /** Validation as the draft defines it, for the keywords that are used. */
  private static List<String> faults(JsonNode root, JsonNode schema, JsonNode value, String path) {
    List<String> faults = new ArrayList<>();
    if (schema.has("$ref")) {
      return faults(root, root.at(schema.path("$ref").asText().substring(1)), value, path);
    }
    if (schema.has("anyOf")) {
      boolean nullable = schema.path("anyOf").path(1).path("type").asText().equals("null");
      if (nullable) {
        return value.isNull() ? faults : faults(root, schema.path("anyOf").path(0), value, path);
      }
      int branch = value.has("repeat") ? 1 : value.has("chunks") ? 2 : 0;
      return faults(root, schema.path("anyOf").path(branch), value, path);
    }
    if (schema.path("type").isArray()) {
      return alternatives(schema, value, path);
    }
    boolean typed =
        switch (schema.path("type").asText()) {
          case "object" -> value.isObject();
          case "array" -> value.isArray();
          case "string" -> value.isTextual();
          case "integer" -> value.isIntegralNumber();
          case "number" -> value.isNumber();
          case "boolean" -> value.isBoolean();
          default -> throw new AssertionError(schema.toString());
        };
    if (!typed) {
      return List.of(path + " is no " + schema.path("type").asText());
    }
    double number = value.asDouble();
    if (schema.has("minimum") && number < schema.path("minimum").asDouble()) {
      faults.add(path + " is below " + schema.path("minimum").asText());
    }
    if (schema.has("exclusiveMinimum") && number <= schema.path("exclusiveMinimum").asDouble()) {
      faults.add(path + " is not above 0");
    }
    if (schema.has("exclusiveMaximum") && number >= schema.path("exclusiveMaximum").asDouble()) {
      faults.add(path + " is not below 1");
    }
    if (schema.has("enum")
        && !schema.path("enum").toString().contains("\"" + value.asText() + "\"")) {
      faults.add(path + " is none of " + schema.path("enum"));
    }
    for (JsonNode key : schema.path("required")) {
      if (!value.has(key.asText())) {
        faults.add(Schema.join(path, key.asText()) + " is missing");
      }
    }
    if (value.isObject()) {
      value
          .properties()
          .forEach(
              e -> {
                JsonNode child = schema.path("properties").path(e.getKey());
                String at = Schema.join(path, e.getKey());
                faults.addAll(
                    child.isMissingNode()
                        ? List.of(at + " is unknown")
                        : faults(root, child, e.getValue(), at));
              });
    }
    for (int i = 0; value.isArray() && i < value.size(); i++) {
      faults.addAll(faults(root, schema.path("items"), value.get(i), path + "[" + i + "]"));
    }
    return faults;
  }

  private static List<String> alternatives(JsonNode schema, JsonNode value, String path) {
    List<String> all = new ArrayList<>();
    for (JsonNode type : schema.path("type")) {
      List<String> faults =
          faults(schema, new ObjectMapper().createObjectNode().set("type", type), value, path);
      if (faults.isEmpty()) {
        return faults;
      }
      all.addAll(faults);
    }
    return List.of(String.join(" and ", all));
  }
}
