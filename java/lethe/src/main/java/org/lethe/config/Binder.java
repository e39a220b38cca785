package org.lethe.config;

import java.lang.reflect.Constructor;
import java.lang.reflect.InvocationTargetException;
import java.lang.reflect.RecordComponent;
import java.lang.reflect.Type;
import java.math.BigInteger;
import java.nio.file.InvalidPathException;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Collections;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Locale;
import java.util.Map;
import java.util.Optional;
import java.util.Set;
import java.util.regex.Pattern;
import org.lethe.InternalFaultException;
import org.lethe.UserException;

/** Makes records of {@link Yaml}, as {@link Config} describes. */
final class Binder {
  /** How YAML 1.1 writes what is true; its reader tells them from what is false. */
  private static final Set<String> TRUE = Set.of("true", "yes", "on");

  /** YAML 1.1 takes 1e-3, which has no point, for a text; nobody who writes it means one. */
  private static final Pattern NUMBER =
      Pattern.compile("[-+]?(\\d+\\.?\\d*|\\.\\d+)([eE][-+]?\\d+)?");

  private final Class<?> root;

  /** Collects what is wrong; null: the first wrong thing is thrown. */
  private final List<UserException> problems;

  Binder(Class<?> root) {
    this(root, null);
  }

  /**
   * A binder that goes on: what it refuses goes to {@code problems}, and the default stands in its
   * place.
   */
  Binder(Class<?> root, List<UserException> problems) {
    this.root = root;
    this.problems = problems;
  }

  /** Nothing can stand in the place of a refused value; the refusal itself was reported. */
  private static final class Unusable extends RuntimeException {
    private static final long serialVersionUID = 1;

    Unusable(UserException cause) {
      super(cause);
    }
  }

  /** The root record; empty when a problem left none. */
  Optional<Object> rootRecord(Yaml.Mapping section) {
    try {
      return Optional.of(record(root, section, ""));
    } catch (UserException e) {
      report(e);
      return Optional.empty();
    } catch (Unusable e) {
      return Optional.empty();
    }
  }

  Object record(Class<?> type, Yaml.Mapping section, String path) {
    List<String> known = Schema.keys(type);
    section
        .entries()
        .forEach(
            (key, value) -> {
              if (!known.contains(key)) {
                report(unknown(key, value, path, known));
              }
            });
    RecordComponent[] components = type.getRecordComponents();
    Object[] values = new Object[components.length];
    for (int i = 0; i < components.length; i++) {
      values[i] = componentOrDefault(components[i], section, path);
    }
    return construct(type, values, section, path);
  }

  private void report(UserException problem) {
    if (problems == null) {
      throw problem;
    }
    // A default that several places share is refused in each of them.
    if (problems.stream().noneMatch(known -> known.getMessage().equals(problem.getMessage()))) {
      problems.add(problem);
    }
  }

  private Object componentOrDefault(RecordComponent component, Yaml.Mapping section, String path) {
    UserException cause;
    try {
      return component(component, section, path);
    } catch (UserException e) {
      report(e);
      cause = e;
    } catch (Unusable e) {
      cause = (UserException) e.getCause();
    }
    try {
      return component(component, Yaml.Mapping.empty(section.where()), path);
    } catch (UserException e) {
      throw new Unusable(cause);
    }
  }

  private UserException unknown(String key, Yaml value, String path, List<String> siblings) {
    String full = Schema.join(path, key);
    Optional<String> near = Nearest.of(key, siblings).map(name -> Schema.join(path, name));
    if (near.isEmpty()) {
      List<String> paths = Schema.paths(root, "");
      near =
          paths.stream()
              .filter(known -> known.endsWith("." + key))
              .findFirst()
              .or(() -> Nearest.of(full, paths));
    }
    String hint =
        near.map(name -> "; did you mean " + name + "?")
            .orElse("; known here: " + String.join(", ", siblings));
    return new UserException(value.where() + ": unknown key " + full + hint);
  }

  private Object component(RecordComponent component, Yaml.Mapping section, String path) {
    String key = Schema.key(component);
    String full = Schema.join(path, key);
    Yaml given = section.entries().get(key);
    if (given instanceof Yaml.Sequence list && component.isAnnotationPresent(Inherits.class)) {
      Class<?> entry = Schema.raw(Schema.argument(component.getGenericType()));
      given = Inheritance.of(list, section, Schema.keys(entry));
    }
    if (given != null) {
      return value(component.getGenericType(), written(component, given, full), full);
    }
    Default fallback = component.getAnnotation(Default.class);
    if (fallback != null) {
      return value(
          component.getGenericType(),
          YamlReader.value(fallback.value(), "default of " + full),
          full);
    }
    if (component.getType() == Optional.class) {
      return Optional.empty();
    }
    if (component.getType() == Map.class) {
      return Map.of();
    }
    if (component.getType().isRecord()) {
      return record(component.getType(), Yaml.Mapping.empty(section.where()), full);
    }
    Doc doc = component.getAnnotation(Doc.class);
    throw new UserException(
        section.where()
            + ": "
            + full
            + " is missing"
            + (doc == null ? "" : " (" + doc.value() + ")")
            + "; set it in the file or as "
            + full
            + "=...");
  }

  /**
   * What a component is given, as its type takes it: an {@link Amount} that stands there as a
   * number is the text of that number.
   *
   * @throws UserException for a number where the text has a form of its own ({@link Written})
   */
  private static Yaml written(RecordComponent component, Yaml given, String path) {
    if (!(given instanceof Yaml.Scalar scalar) || scalar.type() == Yaml.ScalarType.NULL) {
      return given;
    }
    Written form = component.getAnnotation(Written.class);
    if (form != null && scalar.type() != Yaml.ScalarType.TEXT) {
      throw expected(path, form.value(), given);
    }
    if (!component.isAnnotationPresent(Amount.class) || scalar.type() == Yaml.ScalarType.BOOLEAN) {
      return given;
    }
    try {
      Bytes.parse(path, scalar.text());
    } catch (IllegalArgumentException e) {
      throw new UserException(given.where() + ": " + e.getMessage(), e);
    }
    return new Yaml.Scalar(Yaml.ScalarType.TEXT, scalar.text(), scalar.where());
  }

  private static Object construct(
      Class<?> type, Object[] values, Yaml.Mapping section, String path) {
    try {
      Constructor<?> canonical = type.getDeclaredConstructors()[0];
      for (Constructor<?> constructor : type.getDeclaredConstructors()) {
        if (constructor.getParameterCount() == values.length) {
          canonical = constructor;
        }
      }
      canonical.setAccessible(true);
      return canonical.newInstance(values);
    } catch (InvocationTargetException e) {
      Throwable cause = e.getCause();
      if (cause instanceof IllegalArgumentException || cause instanceof UserException) {
        String where = at(section, cause) + (path.isEmpty() ? "" : ": " + path);
        throw new UserException(where + ": " + cause.getMessage(), cause);
      }
      throw new InternalFaultException("validation of " + type.getName() + " failed", cause);
    } catch (ReflectiveOperationException e) {
      throw new InternalFaultException("no record can be made of " + type.getName(), e);
    }
  }

  /** Where what a section refused was written: a number's own line, else the section's. */
  private static String at(Yaml.Mapping section, Throwable refusal) {
    Yaml entry =
        refusal instanceof Check.OutOfRange range ? section.entries().get(range.key()) : null;
    return entry == null ? section.where() : entry.where();
  }

  private Object value(Type type, Yaml yaml, String path) {
    Class<?> raw = Schema.raw(type);
    boolean absent = yaml instanceof Yaml.Scalar scalar && scalar.type() == Yaml.ScalarType.NULL;
    if (raw == Optional.class) {
      return absent ? Optional.empty() : Optional.of(value(Schema.argument(type), yaml, path));
    }
    if (raw == OptionValue.class) {
      return option(yaml, path);
    }
    if (raw.isRecord()) {
      if (absent) {
        return record(raw, Yaml.Mapping.empty(yaml.where()), path);
      }
      if (yaml instanceof Yaml.Mapping mapping) {
        return record(raw, mapping, path);
      }
      throw expected(path, "a section with keys " + String.join(", ", Schema.keys(raw)), yaml);
    }
    if (raw == List.class) {
      return list(Schema.argument(type), yaml, path);
    }
    if (raw == Map.class) {
      return absent ? Map.of() : map(Schema.mapValue(type), yaml, path);
    }
    if (absent) {
      throw new UserException(
          yaml.where() + ": " + path + " has no value; give one, or remove the key");
    }
    return scalar(raw, yaml, path);
  }

  private static OptionValue option(Yaml yaml, String path) {
    if (!(yaml instanceof Yaml.Scalar scalar) || scalar.type() == Yaml.ScalarType.NULL) {
      throw expected(path, "a text or a number", yaml);
    }
    return new OptionValue(scalar.text(), scalar.where());
  }

  private List<Object> list(Type element, Yaml yaml, String path) {
    if (!(yaml instanceof Yaml.Sequence sequence)) {
      throw expected(path, "a list, written [a, b]", yaml);
    }
    List<Object> values = new ArrayList<>();
    for (int i = 0; i < sequence.items().size(); i++) {
      values.add(value(element, sequence.items().get(i), path + "[" + i + "]"));
    }
    return List.copyOf(values);
  }

  /** Keys are texts, and keep their order. */
  private Map<String, Object> map(Type element, Yaml yaml, String path) {
    if (!(yaml instanceof Yaml.Mapping mapping)) {
      throw expected(path, "names with values, written {a: 1, b: 2}", yaml);
    }
    Map<String, Object> values = new LinkedHashMap<>();
    mapping
        .entries()
        .forEach((key, value) -> values.put(key, value(element, value, Schema.join(path, key))));
    return Collections.unmodifiableMap(values);
  }

  private static Object scalar(Class<?> type, Yaml yaml, String path) {
    if (type.isEnum()) {
      return constant(type, yaml, path);
    }
    if (type == String.class) {
      return text(yaml, path, "a text (in quotes)");
    }
    if (type == Path.class) {
      return path(yaml, path);
    }
    if (type == boolean.class || type == Boolean.class) {
      String text = typed(yaml, path, "true or false", Yaml.ScalarType.BOOLEAN);
      return TRUE.contains(text.toLowerCase(Locale.ROOT));
    }
    if (type == int.class || type == Integer.class) {
      return (int) whole(yaml, path, Integer.MIN_VALUE, Integer.MAX_VALUE);
    }
    if (type == long.class || type == Long.class) {
      return whole(yaml, path, Long.MIN_VALUE, Long.MAX_VALUE);
    }
    if (type == double.class || type == Double.class) {
      return number(yaml, path);
    }
    throw new InternalFaultException("configuration key " + path + " has the type " + type);
  }

  private static Object constant(Class<?> type, Yaml yaml, String path) {
    List<String> names = new ArrayList<>();
    for (Object constant : type.getEnumConstants()) {
      names.add(Schema.name((Enum<?>) constant));
    }
    // YAML's reader takes on and off for truth values, whose text they keep.
    boolean truth = yaml instanceof Yaml.Scalar s && s.type() == Yaml.ScalarType.BOOLEAN;
    String given =
        typed(
            yaml,
            path,
            "one of " + String.join(", ", names),
            truth ? Yaml.ScalarType.BOOLEAN : Yaml.ScalarType.TEXT);
    for (Object constant : type.getEnumConstants()) {
      if (Schema.name((Enum<?>) constant).equalsIgnoreCase(given)) {
        return constant;
      }
    }
    throw new UserException(
        yaml.where()
            + ": "
            + path
            + ": expected one of "
            + String.join(", ", names)
            + ", found "
            + given
            + Nearest.of(given, names).map(name -> "; did you mean " + name + "?").orElse(""));
  }

  private static Path path(Yaml yaml, String path) {
    String text = text(yaml, path, "a path (in quotes)");
    if (text.isEmpty()) {
      throw expected(path, "a path", yaml);
    }
    try {
      return Path.of(text);
    } catch (InvalidPathException e) {
      throw new UserException(yaml.where() + ": " + path + ": not a path: " + e.getMessage(), e);
    }
  }

  private static long whole(Yaml yaml, String path, long least, long most) {
    String text = typed(yaml, path, "a whole number", Yaml.ScalarType.INTEGER);
    BigInteger value;
    try {
      value = new BigInteger(text.replace("_", ""));
    } catch (NumberFormatException e) {
      throw new UserException(
          yaml.where() + ": " + path + ": write " + text + " in decimal digits", e);
    }
    if (value.compareTo(BigInteger.valueOf(least)) < 0
        || value.compareTo(BigInteger.valueOf(most)) > 0) {
      throw expected(path, "a whole number from " + least + " to " + most, yaml);
    }
    return value.longValueExact();
  }

  private static double number(Yaml yaml, String path) {
    if (yaml instanceof Yaml.Scalar scalar) {
      String text = scalar.text().replace("_", "");
      if (scalar.type() != Yaml.ScalarType.BOOLEAN && NUMBER.matcher(text).matches()) {
        double value = Double.parseDouble(text);
        if (Double.isFinite(value)) {
          return value;
        }
      }
    }
    throw expected(path, "a finite number", yaml);
  }

  private static String text(Yaml yaml, String path, String expected) {
    return typed(yaml, path, expected, Yaml.ScalarType.TEXT);
  }

  private static String typed(Yaml yaml, String path, String expected, Yaml.ScalarType type) {
    if (yaml instanceof Yaml.Scalar scalar && scalar.type() == type) {
      return scalar.text();
    }
    throw expected(path, expected, yaml);
  }

  private static UserException expected(String path, String expected, Yaml found) {
    return new UserException(
        found.where() + ": " + path + ": expected " + expected + ", found " + found.kind());
  }
}
