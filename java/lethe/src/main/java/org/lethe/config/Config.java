package org.lethe.config;

import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.Optional;
import java.util.Set;
import org.lethe.UserException;

/**
 * Strict configuration: YAML into records and back.
 *
 * <p>A record's components are the keys, in snake_case; a nested record is a section. Components
 * may be {@code String}, {@code Path}, {@code int}, {@code long}, {@code double}, {@code boolean},
 * an enum (in any case), a record, {@code Optional} or {@code List} of these, or a {@code Map} of
 * texts to numbers, texts or {@link OptionValue}s, which leave their keys to others. Values not
 * given come from {@link Default}. A compact constructor may refuse values by an {@code
 * IllegalArgumentException}; its message is given the file, the line and the section.
 *
 * <p>All methods throw {@link UserException} naming file, line and key for anything that is
 * unknown, duplicate, missing or of another type. Any thread may call.
 */
public final class Config {
  private Config() {}

  /**
   * Reads a file and lays overrides over it.
   *
   * @param overrides {@code key.path=value}, the value a YAML scalar or list; later ones win
   */
  public static <R extends Record> R load(Class<R> type, Path file, List<String> overrides) {
    return bind(type, YamlReader.file(file), overrides);
  }

  /** The defaults with overrides laid over them. */
  public static <R extends Record> R of(Class<R> type, List<String> overrides) {
    return bind(type, Yaml.Mapping.empty("configuration"), overrides);
  }

  /** Another configuration with overrides laid over it. */
  public static <R extends Record> R with(R config, Class<R> type, List<String> overrides) {
    Yaml written = YamlReader.value(toYaml(config), "configuration");
    return bind(type, (Yaml.Mapping) written, overrides);
  }

  /**
   * A configuration with everything that is wrong with it.
   *
   * @param config with defaults in the place of refused values; empty where none can stand
   * @param problems empty when all is well
   */
  public record Checked<R extends Record>(Optional<R> config, List<UserException> problems) {}

  /** As {@link #load}, but goes on behind what is wrong and lists all of it. */
  public static <R extends Record> Checked<R> check(
      Class<R> type, Path file, List<String> overrides) {
    List<UserException> problems = new ArrayList<>();
    Yaml.Mapping root;
    try {
      root = YamlReader.file(file);
    } catch (UserException e) {
      return new Checked<>(Optional.empty(), List.of(e));
    }
    for (String override : overrides) {
      try {
        Overrides.apply(root, List.of(override));
      } catch (UserException e) {
        problems.add(e);
      }
    }
    Optional<R> config = new Binder(type, problems).rootRecord(root).map(type::cast);
    return new Checked<>(config, List.copyOf(problems));
  }

  /** The whole configuration, defaults included; {@link #load} makes an equal record of it. */
  public static String toYaml(Record config) {
    return YamlWriter.write(config, false, Set.of());
  }

  /** As {@link #toYaml}, with each key's {@link Doc} above it. */
  public static String toCommentedYaml(Record config) {
    return toCommentedYaml(config, Set.of());
  }

  /**
   * As {@link #toCommentedYaml(Record)}, without some keys of the first level.
   *
   * @param without keys that are left out; reading the text gives them their defaults
   */
  public static String toCommentedYaml(Record config, Set<String> without) {
    return YamlWriter.write(config, true, without);
  }

  private static <R extends Record> R bind(
      Class<R> type, Yaml.Mapping root, List<String> overrides) {
    Overrides.apply(root, overrides);
    return type.cast(new Binder(type).record(type, root, ""));
  }
}
