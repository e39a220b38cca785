package org.lethe.config;

import java.util.List;
import java.util.regex.Pattern;
import org.lethe.UserException;

/** Lays {@code key.path=value} arguments over a configuration. */
final class Overrides {
  private static final Pattern PATH = Pattern.compile("\\w+(\\.\\w+)*");

  private Overrides() {}

  /**
   * Changes {@code root} in place; later overrides win.
   *
   * @param overrides {@code key.path=value}, the value a YAML scalar or list ({@code [a, b]})
   */
  static void apply(Yaml.Mapping root, List<String> overrides) {
    for (String override : overrides) {
      int equals = override.indexOf('=');
      if (equals < 0 || !PATH.matcher(override.substring(0, equals)).matches()) {
        throw new UserException(
            "override '" + override + "': write key.path=value, for example train.epochs=3");
      }
      String where = "override '" + override + "'";
      Yaml value = YamlReader.value(override.substring(equals + 1), where);
      if (value instanceof Yaml.Mapping) {
        throw new UserException(
            where + ": the value is a section; override its keys one by one, or quote the text");
      }
      put(root, List.of(override.substring(0, equals).split("\\.", -1)), value);
    }
  }

  private static void put(Yaml.Mapping root, List<String> path, Yaml value) {
    Yaml.Mapping section = root;
    for (int i = 0; i < path.size() - 1; i++) {
      Yaml next = section.entries().get(path.get(i));
      if (next == null || isNull(next)) {
        next = Yaml.Mapping.empty(value.where());
        section.entries().put(path.get(i), next);
      }
      if (!(next instanceof Yaml.Mapping mapping)) {
        throw new UserException(
            value.where()
                + ": "
                + String.join(".", path.subList(0, i + 1))
                + " is no section but "
                + next.kind()
                + " at "
                + next.where());
      }
      section = mapping;
    }
    section.entries().put(path.get(path.size() - 1), value);
  }

  private static boolean isNull(Yaml value) {
    return value instanceof Yaml.Scalar scalar && scalar.type() == Yaml.ScalarType.NULL;
  }
}
