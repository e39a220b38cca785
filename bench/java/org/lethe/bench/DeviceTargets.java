package org.lethe.bench;

import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Locale;
import java.util.Map;

/** What was asked for beside what was found; what was not measured is none of them. */
final class DeviceTargets {
  private final List<Map<String, Object>> all = new ArrayList<>();

  void atMost(String what, double found, double limit) {
    add(what, "at most " + limit, found, found <= limit);
  }

  void atLeast(String what, double found, double limit) {
    add(what, "at least " + limit, found, found >= limit);
  }

  private void add(String what, String wanted, double found, boolean met) {
    Map<String, Object> target = new LinkedHashMap<>();
    target.put("target", what);
    target.put("wanted", wanted);
    target.put("found", found);
    target.put("verdict", met ? "met" : "unmet");
    all.add(target);
    System.out.print(line(target));
  }

  List<Map<String, Object>> all() {
    return List.copyOf(all);
  }

  private static String line(Map<String, Object> target) {
    return String.format(
        Locale.ROOT,
        "| %s | %s | %.4g | %s |%n",
        target.get("target"),
        target.get("wanted"),
        (double) target.get("found"),
        target.get("verdict"));
  }

  /** A table; empty where nothing was asked for. */
  String table() {
    if (all.isEmpty()) {
      return "";
    }
    StringBuilder table =
        new StringBuilder("| asked for | wanted | found | verdict |\n|---|---|---|---|\n");
    all.forEach(target -> table.append(line(target)));
    return table.append('\n').toString();
  }
}
