package org.lethe.config;

import java.util.Locale;

/** Range checks of the configuration records; messages begin with the key. */
final class Check {
  private Check() {}

  /**
   * What a number may be.
   *
   * @param minimum the least, or what it must be above
   * @param exclusiveMinimum whether the minimum itself is refused
   * @param below what it must be below; infinite: no bound
   */
  record Range(double minimum, boolean exclusiveMinimum, double below) {}

  /** A number outside its range; says both, so that a schema of the keys can, too. */
  static final class OutOfRange extends IllegalArgumentException {
    private static final long serialVersionUID = 1;

    private final String key;
    private final transient Range range;

    OutOfRange(String key, Range range, String message) {
      super(message);
      this.key = key;
      this.range = range;
    }

    String key() {
      return key;
    }

    Range range() {
      return range;
    }
  }

  static void atLeast(String key, long least, long value) {
    if (value < least) {
      throw new OutOfRange(
          key,
          new Range(least, false, Double.POSITIVE_INFINITY),
          String.format(Locale.ROOT, "%s must be at least %d, not %d", key, least, value));
    }
  }

  static void within(String key, long least, long most, long value) {
    if (value < least || value > most) {
      throw new OutOfRange(
          key,
          new Range(least, false, most + 1.0),
          String.format(Locale.ROOT, "%s must be from %d to %d, not %d", key, least, most, value));
    }
  }

  static void notNegative(String key, double value) {
    if (!(value >= 0)) {
      throw new OutOfRange(
          key,
          new Range(0, false, Double.POSITIVE_INFINITY),
          key + " must not be negative, but is " + value);
    }
  }

  static void positive(String key, double value) {
    if (!(value > 0)) {
      throw new OutOfRange(
          key,
          new Range(0, true, Double.POSITIVE_INFINITY),
          key + " must be above 0, but is " + value);
    }
  }

  /** At least 0 and below 1: a decay rate. */
  static void fraction(String key, double value) {
    if (!(value >= 0 && value < 1)) {
      throw new OutOfRange(
          key, new Range(0, false, 1), key + " must be in [0, 1), but is " + value);
    }
  }

  /** Above 0 and below 1: a part of a whole. */
  static void part(String key, double value) {
    if (!(value > 0 && value < 1)) {
      throw new OutOfRange(
          key, new Range(0, true, 1), key + " must be above 0 and below 1, but is " + value);
    }
  }
}
