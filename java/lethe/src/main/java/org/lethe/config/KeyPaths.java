package org.lethe.config;

import java.lang.reflect.RecordComponent;
import java.lang.reflect.Type;
import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;

/** The keys that can be set as {@code key.path=value}, for completion and documentation. */
public final class KeyPaths {
  private KeyPaths() {}

  /**
   * Full path of every key that holds a value of its own (sections do not), with the values it may
   * have where these can be counted: an enum's names, {@code true} and {@code false}; otherwise an
   * empty list. In the order of the records.
   */
  public static Map<String, List<String>> of(Class<? extends Record> type) {
    Map<String, List<String>> paths = new LinkedHashMap<>();
    collect(type, "", paths);
    return paths;
  }

  private static void collect(Class<?> record, String prefix, Map<String, List<String>> paths) {
    for (RecordComponent component : record.getRecordComponents()) {
      String path = Schema.join(prefix, Schema.key(component));
      Type type = Schema.unwrap(component.getGenericType());
      Class<?> raw = Schema.raw(type);
      if (raw.isRecord()) {
        collect(raw, path, paths);
      } else if (raw != Map.class // Its keys are known elsewhere.
          && (raw != List.class || !Schema.raw(Schema.argument(type)).isRecord())) {
        paths.put(path, values(raw));
      }
    }
  }

  private static List<String> values(Class<?> type) {
    if (type == boolean.class || type == Boolean.class) {
      return List.of("true", "false");
    }
    if (!type.isEnum()) {
      return List.of();
    }
    List<String> names = new ArrayList<>();
    for (Object constant : type.getEnumConstants()) {
      names.add(Schema.name((Enum<?>) constant));
    }
    return List.copyOf(names);
  }
}
