package org.lethe.run;

import java.util.LinkedHashMap;
import java.util.List;
import java.util.Locale;
import java.util.Map;
import org.lethe.config.RunConfig;

/**
 * One run of a sweep.
 *
 * @param number from 1, in the grid's order
 * @param name what sets it apart from the others, for people
 * @param values the grid's values by key, for people
 * @param config of an unlearning into the run's own directory
 */
record SweepCell(int number, String name, Map<String, String> values, RunConfig config) {
  private static final int LONGEST_NAME = 80;

  SweepCell {
    values = new LinkedHashMap<>(values);
  }

  /** The method without its numbers, such as ME+GD. */
  String method() {
    return Settings.method(config.method()).name();
  }

  /** The name of its directory: the number, and as much of the name as a file name can be. */
  static String directory(int number, String name) {
    String plain =
        name.toLowerCase(Locale.ROOT)
            .replaceAll("[^a-z0-9.]+", "-")
            .replaceAll("^[-.]+|[-.]+$", "");
    String text = String.format(Locale.ROOT, "%03d-%s", number, plain);
    return text.substring(0, Math.min(text.length(), LONGEST_NAME)).replaceAll("[-.]+$", "");
  }

  /** What an error of it begins with. */
  String where(List<SweepCell> all) {
    return "run " + number + " of " + all.size() + " (" + name + "): ";
  }
}
