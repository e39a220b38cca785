package org.lethe.method;

import java.util.LinkedHashMap;
import java.util.List;
import java.util.Locale;
import java.util.Map;
import org.lethe.InternalFaultException;
import org.lethe.UserException;

/** The options of a loss, each with a value that is allowed: a given one, or the default. */
public final class Options {
  private final Map<String, String> values;

  private Options(Map<String, String> values) {
    this.values = values;
  }

  /**
   * Takes what was given, and defaults for the rest.
   *
   * @param key where the options stand in a configuration, for messages
   * @throws UserException for an option the loss does not have, or a value out of range
   */
  static Options of(String key, String loss, List<Option> known, Map<String, Setting> given) {
    List<String> names = known.stream().map(Option::name).toList();
    given.forEach(
        (name, value) -> {
          if (!names.contains(name)) {
            throw new UserException(
                value.place()
                    + key
                    + "."
                    + name
                    + ": "
                    + loss
                    + " has no such option; "
                    + (names.isEmpty()
                        ? "it has none: remove the key"
                        : "did you mean "
                            + Names.nearest(name, names)
                            + "? It has "
                            + String.join(", ", names)));
          }
        });
    Map<String, String> values = new LinkedHashMap<>();
    for (Option option : known) {
      Setting setting = given.getOrDefault(option.name(), Setting.of(option.standard()));
      values.put(option.name(), option.checked(key + "." + option.name(), setting));
    }
    return new Options(values);
  }

  /** A number. */
  public double number(String name) {
    return Double.parseDouble(value(name));
  }

  /** A whole number. */
  public int whole(String name) {
    return Integer.parseInt(value(name));
  }

  /** True or false. */
  public boolean flag(String name) {
    return Boolean.parseBoolean(value(name));
  }

  /** One of an enum's values. */
  public <E extends Enum<E>> E choice(String name, Class<E> type) {
    return Enum.valueOf(type, value(name).toUpperCase(Locale.ROOT));
  }

  /** The option of that name which says the rows. */
  Positions positions() {
    return choice("positions", Positions.class);
  }

  private String value(String name) {
    String value = values.get(name);
    if (value == null) {
      throw new InternalFaultException("A loss asks for the option " + name + ", which it lacks");
    }
    return value;
  }
}
