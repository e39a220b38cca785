package org.lethe.bench.jmh;

/** Stops a benchmark whose result is wrong, before anything is timed. */
public final class Check {
  private Check() {}

  /** Fails unless the two are equal within {@code tolerance} of the larger of 1 and |expected|. */
  public static void near(String what, double actual, double expected, double tolerance) {
    // Written so that a NaN fails.
    if (!(Math.abs(actual - expected) <= tolerance * Math.max(1, Math.abs(expected)))) {
      throw new IllegalStateException(
          "wrong result, nothing is timed: " + what + " is " + actual + ", must be " + expected);
    }
  }

  /** Fails unless {@code holds}. */
  public static void that(String what, boolean holds) {
    if (!holds) {
      throw new IllegalStateException("wrong result, nothing is timed: not so: " + what);
    }
  }
}
