package org.lethe.config;

import java.util.Locale;

/** Range checks of the configuration records; messages begin with the key. */
final class Check {
  private Check() {}

  static void atLeast(String key, long least, long value) {
    if (value < least) {
      throw new IllegalArgumentException(
          String.format(Locale.ROOT, "%s must be at least %d, not %d", key, least, value));
    }
  }

  static void notNegative(String key, double value) {
    if (!(value >= 0)) {
      throw new IllegalArgumentException(key + " must not be negative, but is " + value);
    }
  }

  static void positive(String key, double value) {
    if (!(value > 0)) {
      throw new IllegalArgumentException(key + " must be above 0, but is " + value);
    }
  }

  /** At least 0 and below 1: a decay rate. */
  static void fraction(String key, double value) {
    if (!(value >= 0 && value < 1)) {
      throw new IllegalArgumentException(key + " must be in [0, 1), but is " + value);
    }
  }
}
