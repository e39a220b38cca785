package org.lethe.config;

import java.lang.reflect.ParameterizedType;
import java.lang.reflect.RecordComponent;
import java.lang.reflect.Type;
import java.util.ArrayList;
import java.util.List;
import java.util.Locale;
import java.util.Optional;

/** The keys that a configuration record stands for. */
final class Schema {
  private Schema() {}

  /** {@code contextLength} is {@code context_length} in YAML. */
  static String key(RecordComponent component) {
    StringBuilder key = new StringBuilder();
    for (char c : component.getName().toCharArray()) {
      if (Character.isUpperCase(c)) {
        key.append('_');
      }
      key.append(Character.toLowerCase(c));
    }
    return key.toString();
  }

  static List<String> keys(Class<?> record) {
    List<String> keys = new ArrayList<>();
    for (RecordComponent component : record.getRecordComponents()) {
      keys.add(key(component));
    }
    return keys;
  }

  /** Full paths of all keys below {@code record}, sections before their entries. */
  static List<String> paths(Class<?> record, String prefix) {
    List<String> paths = new ArrayList<>();
    for (RecordComponent component : record.getRecordComponents()) {
      String path = join(prefix, key(component));
      paths.add(path);
      Class<?> raw = raw(unwrap(component.getGenericType()));
      if (raw.isRecord()) {
        paths.addAll(paths(raw, path));
      }
    }
    return paths;
  }

  /** The T of {@code Optional<T>}, or the type itself. */
  static Type unwrap(Type type) {
    return raw(type) == Optional.class ? argument(type) : type;
  }

  static Type argument(Type type) {
    return ((ParameterizedType) type).getActualTypeArguments()[0];
  }

  /** The V of {@code Map<String, V>}. */
  static Type mapValue(Type type) {
    return ((ParameterizedType) type).getActualTypeArguments()[1];
  }

  static Class<?> raw(Type type) {
    return (Class<?>) (type instanceof ParameterizedType generic ? generic.getRawType() : type);
  }

  /** How a constant is written: an enum whose names are no Java names says so by toString. */
  static String name(Enum<?> constant) {
    return constant.toString().toLowerCase(Locale.ROOT);
  }

  static String join(String prefix, String key) {
    return prefix.isEmpty() ? key : prefix + "." + key;
  }
}
