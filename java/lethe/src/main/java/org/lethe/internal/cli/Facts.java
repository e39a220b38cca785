package org.lethe.internal.cli;

import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Locale;
import java.util.Map;
import org.lethe.report.Table;

/**
 * Named facts as text: a line each; maps as a section, lists of maps as a table. What {@code
 * --json} prints as it is.
 */
final class Facts {
  private Facts() {}

  static String text(Map<String, ?> facts) {
    StringBuilder out = new StringBuilder();
    append(out, facts, "");
    return out.toString();
  }

  private static void append(StringBuilder out, Map<String, ?> facts, String indent) {
    int width = facts.keySet().stream().mapToInt(String::length).max().orElse(0);
    facts.forEach(
        (name, value) -> {
          if (value instanceof Map<?, ?> section) {
            out.append(indent).append(name).append('\n');
            append(out, strings(section), indent + "  ");
          } else if (value instanceof List<?> list && isTable(list)) {
            out.append(indent).append(name).append('\n');
            table(list)
                .lines()
                .forEach(l -> out.append(indent).append("  ").append(l).append('\n'));
          } else if (value instanceof List<?> list && isSentences(list)) {
            out.append(indent).append(name).append('\n');
            list.forEach(item -> out.append(indent).append("  - ").append(item).append('\n'));
          } else {
            String padding = " ".repeat(width - name.length() + 2);
            out.append(indent).append(name).append(padding).append(format(value)).append('\n');
          }
        });
  }

  private static Map<String, ?> strings(Map<?, ?> map) {
    Map<String, Object> named = new LinkedHashMap<>();
    map.forEach((key, value) -> named.put(key.toString(), value));
    return named;
  }

  /** Texts that would not read well side by side. */
  private static boolean isSentences(List<?> list) {
    return list.stream()
        .anyMatch(item -> item instanceof String text && text.matches("(?s).*[,:;] .*"));
  }

  private static boolean isTable(List<?> list) {
    return !list.isEmpty() && list.stream().allMatch(row -> row instanceof Map);
  }

  private static String table(List<?> list) {
    List<String> columns = new ArrayList<>();
    ((Map<?, ?>) list.get(0)).keySet().forEach(key -> columns.add(key.toString()));
    List<List<Table.Cell>> rows = new ArrayList<>();
    for (Object row : list) {
      rows.add(Table.row(((Map<?, ?>) row).values().toArray()));
    }
    return new Table("", columns, rows).plain();
  }

  private static String format(Object value) {
    if (value instanceof Long || value instanceof Integer) {
      return String.format(Locale.ROOT, "%,d", ((Number) value).longValue());
    }
    if (value instanceof List<?> list) {
      return list.isEmpty() ? "none" : String.join(", ", list.stream().map(Facts::format).toList());
    }
    return value instanceof Boolean truth ? (truth ? "yes" : "no") : String.valueOf(value);
  }
}
