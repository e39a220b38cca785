package org.lethe.internal.cli;

import java.util.Locale;
import java.util.Map;
import org.lethe.UserException;

/**
 * Colours of a terminal, or none.
 *
 * @param on whether they are printed
 */
record Ansi(boolean on) {
  private static final String RESET = "\u001b[0m";

  /**
   * Whether results are printed in colour.
   *
   * @param choice auto, always or never; auto: on a terminal, unless the variable NO_COLOR is set
   *     and not empty (no-color.org)
   * @param terminal whether results go to a terminal
   */
  static Ansi of(String choice, boolean terminal, Map<String, String> environment) {
    return switch (choice.toLowerCase(Locale.ROOT)) {
      case "always" -> new Ansi(true);
      case "never" -> new Ansi(false);
      case "auto" -> new Ansi(terminal && environment.getOrDefault("NO_COLOR", "").isEmpty());
      default -> throw new UserException("--color is " + choice + "; give auto, always or never");
    };
  }

  String dim(String text) {
    return styled("2", text);
  }

  String green(String text) {
    return styled("32", text);
  }

  String boldGreen(String text) {
    return styled("1;32", text);
  }

  String red(String text) {
    return styled("31", text);
  }

  private String styled(String code, String text) {
    return on ? "\u001b[" + code + "m" + text + RESET : text;
  }
}
