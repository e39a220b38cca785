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

  /**
   * A score, mostly between 0 and 1: four decimals, so that those of a column compare at sight, or
   * a power of ten where these would show nothing.
   */
  static String score(double value) {
    double magnitude = StrictMath.abs(value);
    boolean fits = magnitude == 0 || (magnitude >= 1e-4 && magnitude < 1e4);
    return String.format(Locale.ROOT, fits ? "%.4f" : "%.1e", value);
  }

  /** Bytes in the unit of 1024 powers that leaves them readable. */
  static String bytes(long bytes) {
    String[] units = {"KiB", "MiB", "GiB", "TiB"};
    double value = bytes / 1024.0;
    int unit = 0;
    while (value >= 1024 && unit < units.length - 1) {
      value /= 1024;
      unit++;
    }
    return String.format(Locale.ROOT, value < 10 ? "%.1f %s" : "%.0f %s", value, units[unit]);
  }

  /** Seconds, or minutes and seconds, or hours and minutes. */
  static String duration(double seconds) {
    if (seconds < 59.5) {
      return String.format(Locale.ROOT, seconds < 10 ? "%.1f s" : "%.0f s", seconds);
    }
    long whole = StrictMath.round(seconds);
    return whole < 3600
        ? whole / 60 + " min " + whole % 60 + " s"
        : whole / 3600 + " h " + whole % 3600 / 60 + " min";
  }
}
