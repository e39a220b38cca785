package org.lethe.config;

import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Set;
import org.lethe.UserException;

/** Makes a list marked {@link Inherits} stand by itself. */
final class Inheritance {
  /** Keys that say how often, and on what, a group's phases are done. */
  static final List<String> TIMES = List.of("repeat", "chunks");

  private static final Set<String> GROUP = Set.of("repeat", "chunks", "phases");
  private static final int MOST_ENTRIES = 10_000;

  private Inheritance() {}

  /**
   * The list with groups written out and sections filled in.
   *
   * @param outside the section that the list stands in
   * @param known keys of an entry
   */
  static Yaml.Sequence of(Yaml.Sequence list, Yaml.Mapping outside, List<String> known) {
    List<Yaml> entries = new ArrayList<>();
    for (Yaml item : list.items()) {
      addTo(entries, item, outside, known);
    }
    return new Yaml.Sequence(entries, list.where());
  }

  private static void addTo(
      List<Yaml> entries, Yaml item, Yaml.Mapping outside, List<String> known) {
    if (!(item instanceof Yaml.Mapping mapping)) {
      entries.add(item);
      return;
    }
    if (!mapping.entries().containsKey("phases")) {
      Map<String, Yaml> sections = new LinkedHashMap<>();
      for (String key : known) {
        if (outside.entries().get(key) instanceof Yaml.Mapping section) {
          sections.put(key, section);
        }
      }
      entries.add(over(new Yaml.Mapping(sections, mapping.where()), mapping));
      return;
    }
    for (Map.Entry<String, Yaml> entry : mapping.entries().entrySet()) {
      if (!GROUP.contains(entry.getKey())) {
        throw new UserException(
            entry.getValue().where()
                + ": a group of phases has the keys phases and repeat or chunks, not "
                + entry.getKey());
      }
    }
    if (!(mapping.entries().get("phases") instanceof Yaml.Sequence inner)) {
      throw new UserException(
          mapping.where()
              + ": phases: expected a list, found "
              + mapping.entries().get("phases").kind());
    }
    boolean chunks = mapping.entries().containsKey("chunks");
    if (chunks && mapping.entries().containsKey("repeat")) {
      throw new UserException(
          mapping.where()
              + ": a group of phases has repeat or chunks, not both; put one into the"
              + " other");
    }
    int times = times(mapping, chunks ? "chunks" : "repeat");
    for (int round = 0; round < times; round++) {
      Yaml.Mapping around = chunks ? chunk(outside, round + 1, times) : outside;
      for (Yaml phase : inner.items()) {
        addTo(entries, phase, around, known);
      }
      if (entries.size() > MOST_ENTRIES) {
        throw new UserException(
            mapping.where() + ": these are more than " + MOST_ENTRIES + " phases; repeat fewer");
      }
    }
  }

  /** What stands outside, with {@code data.forget_chunk} set to one of the chunks. */
  private static Yaml.Mapping chunk(Yaml.Mapping outside, int index, int count) {
    Yaml value =
        new Yaml.Scalar(Yaml.ScalarType.TEXT, new Chunk(index, count).toString(), outside.where());
    Yaml.Mapping data = new Yaml.Mapping(Map.of("forget_chunk", value), outside.where());
    return over(outside, new Yaml.Mapping(Map.of("data", data), outside.where()));
  }

  private static int times(Yaml.Mapping group, String key) {
    Yaml given = group.entries().get(key);
    if (given instanceof Yaml.Scalar scalar && scalar.text().matches("[1-9]\\d{0,5}")) {
      return Integer.parseInt(scalar.text());
    }
    throw new UserException(
        group.where()
            + ": "
            + key
            + ": expected a whole number from 1, found "
            + (given == null ? "nothing" : given.kind()));
  }

  /** What {@code upper} does not give, {@code lower} does. */
  private static Yaml.Mapping over(Yaml.Mapping lower, Yaml.Mapping upper) {
    Map<String, Yaml> merged = new LinkedHashMap<>(lower.entries());
    upper
        .entries()
        .forEach(
            (key, value) ->
                merged.put(
                    key,
                    value instanceof Yaml.Mapping above
                            && merged.get(key) instanceof Yaml.Mapping below
                        ? over(below, above)
                        : value));
    return new Yaml.Mapping(merged, upper.where());
  }
}
