package org.lethe.internal.cli;

import java.nio.file.Path;
import java.util.List;
import java.util.Locale;
import org.lethe.UserException;
import org.lethe.config.AdapterSection;

/** {@code DIR} or {@code DIR:COEFFICIENT} of a command line. */
final class WeightedAdapter {
  private WeightedAdapter() {}

  /** What stands behind the last colon is the coefficient when it is a number; else it is 1. */
  static AdapterSection parse(String option, String text) {
    int colon = text.lastIndexOf(':');
    String number = text.substring(colon + 1).strip().toLowerCase(Locale.ROOT);
    if (colon < 0 || !number.matches("[-+.0-9].*|nan|infinity")) {
      return new AdapterSection(Path.of(text), 1);
    }
    try {
      return new AdapterSection(Path.of(text.substring(0, colon)), Double.parseDouble(number));
    } catch (IllegalArgumentException e) {
      throw new UserException(
          option
              + " is "
              + text
              + "; write DIR:COEFFICIENT with a finite number, such as runs/forgot/adapter:-0.5",
          e);
    }
  }

  static List<AdapterSection> parse(String option, List<String> texts) {
    return texts.stream().map(text -> parse(option, text)).toList();
  }
}
