package org.lethe.report;

import java.util.Locale;

/** Numbers as text, the same on every machine. */
final class Numbers {
  private static final int DIGITS = 4;

  private Numbers() {}

  /** Whole numbers in full, others with four significant digits. */
  static String format(double value) {
    if (Double.isNaN(value) || Double.isInfinite(value)) {
      return Double.toString(value);
    }
    if (value == StrictMath.rint(value) && StrictMath.abs(value) < 1e15) {
      return String.format(Locale.ROOT, "%d", (long) value);
    }
    double magnitude = StrictMath.abs(value);
    if (magnitude < 1e-4 || magnitude >= 1e6) {
      return String.format(Locale.ROOT, "%." + (DIGITS - 1) + "e", value);
    }
    int whole = (int) StrictMath.floor(StrictMath.log10(magnitude)) + 1;
    return String.format(Locale.ROOT, "%." + Math.max(1, DIGITS - whole) + "f", value);
  }
}
