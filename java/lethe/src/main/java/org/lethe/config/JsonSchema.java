package org.lethe.config;

import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.node.ArrayNode;
import com.fasterxml.jackson.databind.node.JsonNodeFactory;
import com.fasterxml.jackson.databind.node.ObjectNode;
import java.lang.reflect.RecordComponent;
import java.lang.reflect.Type;
import java.nio.file.Path;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import org.lethe.InternalFaultException;
import org.lethe.UserException;

/**
 * The JSON schema (draft 2020-12) of a configuration record, by which an editor completes and
 * checks a YAML file. Made of the record itself: keys and types of its components, meanings of
 * {@link Doc}, defaults of {@link Default}, ranges by asking the constructors. Every record is one
 * entry of {@code $defs}.
 *
 * <p>Stricter than {@link Config#load} in one point: names of enums are lower case. Looser in
 * another: rules between keys are not in it.
 */
public final class JsonSchema {
  private static final String DRAFT = "https://json-schema.org/draft/2020-12/schema";
  // Below every minimum and above every maximum that a constructor may ask for.
  private static final List<String> PROBES = List.of("-1", "2000000000");

  private final Map<Class<?>, String> names = new LinkedHashMap<>();
  private final ObjectNode definitions = object();

  private final Map<String, List<String>> values;

  private JsonSchema(Map<String, List<String>> values) {
    this.values = values;
  }

  /** The schema as JSON text, indented, ending with a newline. */
  public static String of(Class<? extends Record> type, String title) {
    return of(type, title, Map.of());
  }

  /**
   * The same, with the texts that some keys may have.
   *
   * @param values by the record's simple name and the key: {@code MethodSection.forget}
   */
  public static String of(
      Class<? extends Record> type, String title, Map<String, List<String>> values) {
    JsonSchema schema = new JsonSchema(values);
    ObjectNode root = object().put("$schema", DRAFT).put("title", title);
    root.setAll(schema.record(type));
    root.set("$defs", schema.definitions);
    return root.toPrettyString() + "\n";
  }

  private static ObjectNode object() {
    return JsonNodeFactory.instance.objectNode();
  }

  private ObjectNode record(Class<?> type) {
    ObjectNode node = object().put("type", "object");
    ObjectNode properties = node.putObject("properties");
    ArrayNode required = JsonNodeFactory.instance.arrayNode();
    for (RecordComponent component : type.getRecordComponents()) {
      properties.set(Schema.key(component), component(type, component));
      if (isRequired(component)) {
        required.add(Schema.key(component));
      }
    }
    if (!required.isEmpty()) {
      node.set("required", required);
    }
    return node.put("additionalProperties", false);
  }

  private static boolean isRequired(RecordComponent component) {
    return component.getAnnotation(Default.class) == null
        && component.getType() != Optional.class
        && component.getType() != Map.class
        && !component.getType().isRecord();
  }

  private ObjectNode component(Class<?> record, RecordComponent component) {
    Type type = component.getGenericType();
    ObjectNode node = object();
    Doc doc = component.getAnnotation(Doc.class);
    if (doc != null) {
      node.put("description", doc.value());
    }
    // A section or an optional key that is written without a value counts as not given.
    boolean nullable =
        component.getType() == Optional.class
            || component.getType() == Map.class
            || component.getType().isRecord();
    ObjectNode plain = type(Schema.unwrap(type));
    if (component.isAnnotationPresent(Amount.class)) {
      plain.putArray("type").add("string").add("integer");
    }
    if (component.isAnnotationPresent(Inherits.class)) {
      Class<?> entry = Schema.raw(Schema.argument(type));
      plain.set("items", entryOrGroup(entry));
    }
    range(record, component).ifPresent(range -> put(plain, range));
    List<String> texts = values.get(record.getSimpleName() + "." + Schema.key(component));
    if (texts != null) {
      texts.forEach(plain.putArray("enum")::add);
    }
    if (nullable) {
      node.putArray("anyOf").add(plain).addObject().put("type", "null");
    } else {
      node.setAll(plain);
    }
    Default fallback = component.getAnnotation(Default.class);
    if (fallback != null) {
      Yaml value = YamlReader.value(fallback.value(), "default of " + Schema.key(component));
      node.set("default", json(Schema.unwrap(type), value));
    }
    return node;
  }

  private ObjectNode type(Type type) {
    Class<?> raw = Schema.raw(type);
    ObjectNode node = object();
    if (raw == OptionValue.class) {
      node.putArray("type").add("string").add("number").add("boolean");
      return node;
    }
    if (raw.isRecord()) {
      return node.put("$ref", "#/$defs/" + definition(raw));
    }
    if (raw == List.class) {
      node.put("type", "array").set("items", type(Schema.argument(type)));
      return node;
    }
    if (raw == Map.class) {
      node.put("type", "object").set("additionalProperties", type(Schema.mapValue(type)));
      return node;
    }
    if (raw.isEnum()) {
      ArrayNode values = node.put("type", "string").putArray("enum");
      for (Object constant : raw.getEnumConstants()) {
        values.add(Schema.name((Enum<?>) constant));
      }
      return node;
    }
    if (raw == Path.class) {
      return node.put("type", "string").put("minLength", 1);
    }
    return node.put("type", scalar(raw));
  }

  private static String scalar(Class<?> type) {
    if (type == String.class) {
      return "string";
    }
    if (type == boolean.class || type == Boolean.class) {
      return "boolean";
    }
    if (type == int.class || type == Integer.class || type == long.class || type == Long.class) {
      return "integer";
    }
    if (type == double.class || type == Double.class) {
      return "number";
    }
    throw new InternalFaultException("no JSON type for " + type);
  }

  /** The name of a record's definition, which is made when it is first asked for. */
  private String definition(Class<?> type) {
    String known = names.get(type);
    if (known != null) {
      return known;
    }
    String name = type.getSimpleName();
    for (int i = 2; names.containsValue(name); i++) {
      name = type.getSimpleName() + i;
    }
    // Before the definition itself: a record may hold a list of its own kind.
    names.put(type, name);
    definitions.set(name, record(type));
    return name;
  }

  /** An entry of a list that {@link Inheritance} writes out: a section, or a group of such. */
  private ObjectNode entryOrGroup(Class<?> entry) {
    String name = definition(entry) + "OrGroup";
    ObjectNode reference = object().put("$ref", "#/$defs/" + name);
    ArrayNode forms = definitions.putObject(name).putArray("anyOf");
    forms.add(object().put("$ref", "#/$defs/" + definition(entry)));
    for (String times : Inheritance.TIMES) {
      ObjectNode group = object().put("type", "object");
      ObjectNode properties = group.putObject("properties");
      properties.putObject(times).put("type", "integer").put("minimum", 1);
      properties.putObject("phases").put("type", "array").set("items", reference);
      group.putArray("required").add(times).add("phases");
      forms.add(group.put("additionalProperties", false));
    }
    return reference;
  }

  private static JsonNode json(Type type, Yaml yaml) {
    JsonNodeFactory factory = JsonNodeFactory.instance;
    if (yaml instanceof Yaml.Sequence sequence) {
      ArrayNode list = factory.arrayNode();
      sequence.items().forEach(item -> list.add(json(Schema.argument(type), item)));
      return list;
    }
    if (yaml instanceof Yaml.Mapping mapping) {
      ObjectNode object = object();
      mapping.entries().forEach((key, v) -> object.set(key, json(Schema.mapValue(type), v)));
      return object;
    }
    if (!(yaml instanceof Yaml.Scalar scalar)) {
      throw new InternalFaultException("no JSON for the default " + yaml.kind());
    }
    Class<?> raw = Schema.raw(type);
    if (raw.isEnum() || raw == Path.class) {
      return factory.textNode(scalar.text());
    }
    return switch (scalar(raw)) {
      case "integer" -> factory.numberNode(Long.parseLong(scalar.text()));
      case "number" -> factory.numberNode(Double.parseDouble(scalar.text()));
      case "boolean" -> factory.booleanNode(Boolean.parseBoolean(scalar.text()));
      default -> factory.textNode(scalar.text());
    };
  }

  private static void put(ObjectNode node, Check.Range range) {
    String minimum = range.exclusiveMinimum() ? "exclusiveMinimum" : "minimum";
    if (node.path("type").asText().equals("integer")) {
      node.put(minimum, (long) range.minimum());
    } else {
      node.put(minimum, range.minimum());
    }
    if (!Double.isFinite(range.below())) {
      return;
    }
    if (node.path("type").asText().equals("integer")) {
      node.put("exclusiveMaximum", (long) range.below());
    } else {
      node.put("exclusiveMaximum", range.below());
    }
  }

  /** The range that the record's constructor holds a number to, as its refusal tells it. */
  private static Optional<Check.Range> range(Class<?> record, RecordComponent component) {
    String key = Schema.key(component);
    Class<?> raw = Schema.raw(Schema.unwrap(component.getGenericType()));
    if (!raw.isPrimitive() && !Number.class.isAssignableFrom(raw)) {
      return Optional.empty();
    }
    for (String probe : PROBES) {
      Yaml.Mapping section = required(record);
      section.entries().put(key, number(probe));
      try {
        new Binder(record).record(record, section, "");
      } catch (UserException e) {
        if (e.getCause() instanceof Check.OutOfRange refused && refused.key().equals(key)) {
          return Optional.of(refused.range());
        }
      }
    }
    return Optional.empty();
  }

  private static Yaml.Scalar number(String text) {
    return new Yaml.Scalar(Yaml.ScalarType.INTEGER, text, "probe");
  }

  /** Something for every key of a record that must be given. */
  private static Yaml.Mapping required(Class<?> record) {
    Yaml.Mapping section = Yaml.Mapping.empty("probe");
    for (RecordComponent component : record.getRecordComponents()) {
      Class<?> type = component.getType();
      if (type.isRecord()) {
        section.entries().put(Schema.key(component), required(type));
      } else if (isRequired(component)) {
        section.entries().put(Schema.key(component), something(type));
      }
    }
    return section;
  }

  private static Yaml something(Class<?> type) {
    if (type == List.class) {
      return new Yaml.Sequence(List.of(), "probe");
    }
    if (type.isEnum()) {
      String name = Schema.name((Enum<?>) type.getEnumConstants()[0]);
      return new Yaml.Scalar(Yaml.ScalarType.TEXT, name, "probe");
    }
    return switch (type == Path.class ? "string" : scalar(type)) {
      case "integer", "number" -> number("1");
      case "boolean" -> new Yaml.Scalar(Yaml.ScalarType.BOOLEAN, "false", "probe");
      default -> new Yaml.Scalar(Yaml.ScalarType.TEXT, "x", "probe");
    };
  }
}
