package org.lethe.config;

import java.nio.file.Path;
import java.util.List;
import org.lethe.UserException;

/**
 * Strict configuration: YAML into records and back.
 *
 * <p>A record's components are the keys, in snake_case; a nested record is a section. Components
 * may be {@code String}, {@code Path}, {@code int}, {@code long}, {@code double}, {@code boolean},
 * an enum (in any case), a record, {@code Optional} or {@code List} of these. Values not given come
 * from {@link Default}. A compact constructor may refuse values by an {@code
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

  /** The whole configuration, defaults included; {@link #load} makes an equal record of it. */
  public static String toYaml(Record config) {
    return YamlWriter.write(config, false);
  }

  /** As {@link #toYaml}, with each key's {@link Doc} above it. */
  public static String toCommentedYaml(Record config) {
    return YamlWriter.write(config, true);
  }

  private static <R extends Record> R bind(
      Class<R> type, Yaml.Mapping root, List<String> overrides) {
    Overrides.apply(root, overrides);
    return type.cast(new Binder(type).record(type, root, ""));
  }
}
