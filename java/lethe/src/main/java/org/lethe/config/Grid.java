package org.lethe.config;

import java.nio.file.Path;
import java.util.ArrayList;
import java.util.LinkedHashSet;
import java.util.List;
import java.util.Set;
import java.util.regex.Pattern;
import org.lethe.UserException;

/**
 * Keys and the values that each is to take: every combination is a configuration of its own. Knows
 * nothing of which keys there are.
 *
 * @param axes in the order they were given; the last one changes fastest
 */
public record Grid(List<Axis> axes) {
  private static final Pattern KEY = Pattern.compile("\\w+(\\.\\w+)*");

  /**
   * Refuses a grid with a key twice.
   *
   * @throws UserException naming it
   */
  public Grid {
    axes = List.copyOf(axes);
    Set<String> keys = new LinkedHashSet<>();
    for (Axis axis : axes) {
      if (!keys.add(axis.key())) {
        throw new UserException(
            "the grid names " + axis.key() + " twice; give all of its values at one place");
      }
    }
  }

  /**
   * A key and its values.
   *
   * @param key path, such as {@code method.forget_coefficient}
   * @param values at least one, each once
   */
  public record Axis(String key, List<Value> values) {
    /**
     * Refuses what cannot be an axis.
     *
     * @throws UserException naming the key
     */
    public Axis {
      values = List.copyOf(values);
      if (!KEY.matcher(key).matches()) {
        throw new UserException(
            "grid: '" + key + "' is no key; write one such as method.forget_coefficient");
      }
      if (values.isEmpty()) {
        throw new UserException("grid: " + key + " has no values; give at least one");
      }
      if (values.stream().distinct().count() < values.size()) {
        throw new UserException(
            "grid: " + key + " has a value twice: " + texts(values) + "; give it once");
      }
    }

    private static String texts(List<Value> values) {
      return String.join(", ", values.stream().map(Value::text).toList());
    }
  }

  /**
   * A value.
   *
   * @param text for people, without quotes
   * @param yaml as an override takes it
   */
  public record Value(String text, String yaml) {}

  /**
   * A grid from a command line.
   *
   * @param options {@code KEY=V1,V2,...} each, the values YAML scalars or lists {@code [a, b]}
   */
  public static Grid of(List<String> options) {
    List<Axis> axes = new ArrayList<>();
    for (String option : options) {
      int equals = option.indexOf('=');
      if (equals < 1) {
        throw new UserException(
            "grid '"
                + option
                + "': write KEY=V1,V2,..., for example train.learning_rate=1e-4,1e-3");
      }
      String where = "grid '" + option + "'";
      Yaml values = YamlReader.value("[" + option.substring(equals + 1) + "]", where);
      axes.add(axis(option.substring(0, equals).strip(), values));
    }
    return new Grid(axes);
  }

  /** A grid from a YAML file: keys, and a list of values behind each. */
  public static Grid file(Path file) {
    List<Axis> axes = new ArrayList<>();
    YamlReader.file(file).entries().forEach((key, values) -> axes.add(axis(key, values)));
    if (axes.isEmpty()) {
      throw new UserException(
          file + ": holds no grid; write keys with lists, such as method: [ME+GD, NPO+GD]");
    }
    return new Grid(axes);
  }

  /** Both grids' axes, this one's first. */
  public Grid and(Grid more) {
    List<Axis> all = new ArrayList<>(axes);
    all.addAll(more.axes);
    return new Grid(all);
  }

  /** The grid as {@link #of} takes it. */
  public List<String> options() {
    return axes.stream()
        .map(a -> a.key() + "=" + String.join(",", a.values().stream().map(Value::yaml).toList()))
        .toList();
  }

  /** How many combinations there are; the largest {@code long} where there are more. */
  public long size() {
    long size = 1;
    for (Axis axis : axes) {
      long high = Math.multiplyHigh(size, axis.values().size());
      size =
          high != 0 || size * axis.values().size() < 0
              ? Long.MAX_VALUE
              : size * axis.values().size();
    }
    return size;
  }

  private static Axis axis(String key, Yaml values) {
    if (!(values instanceof Yaml.Sequence sequence)) {
      throw new UserException(
          values.where() + ": " + key + " needs a list of values, found " + values.kind());
    }
    return new Axis(key, sequence.items().stream().map(item -> value(key, item)).toList());
  }

  private static Value value(String key, Yaml item) {
    if (item instanceof Yaml.Mapping) {
      throw new UserException(
          item.where() + ": a value of " + key + " is a section; give texts, numbers or lists");
    }
    return new Value(text(item), yaml(item));
  }

  private static String text(Yaml item) {
    return item instanceof Yaml.Sequence sequence
        ? String.join("+", sequence.items().stream().map(Grid::text).toList())
        : ((Yaml.Scalar) item).type() == Yaml.ScalarType.NULL
            ? "unset"
            : ((Yaml.Scalar) item).text();
  }

  private static String yaml(Yaml item) {
    if (item instanceof Yaml.Sequence sequence) {
      return "[" + String.join(", ", sequence.items().stream().map(Grid::yaml).toList()) + "]";
    }
    if (item instanceof Yaml.Scalar scalar) {
      return switch (scalar.type()) {
        case TEXT -> YamlWriter.text(scalar.text());
        case NULL -> "null";
        default -> scalar.text();
      };
    }
    throw new UserException(item.where() + ": a section stands in a list; give texts or numbers");
  }
}
