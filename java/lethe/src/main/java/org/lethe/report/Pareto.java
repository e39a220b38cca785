package org.lethe.report;

import org.lethe.UserException;

/** Which of several alternatives no other beats in both of two measures. */
public final class Pareto {
  private Pareto() {}

  /**
   * Marks the Pareto-optimal points where both measures are to be large: those for which no other
   * point is at least as good in both and better in one. Equal points are all marked or all not; a
   * point with a NaN is never marked, and beats none.
   *
   * @param x first measure
   * @param y second measure, as many
   */
  public static boolean[] front(double[] x, double[] y) {
    if (x.length != y.length) {
      throw new UserException(
          "a Pareto front of " + x.length + " and " + y.length + " values; give as many of both");
    }
    boolean[] front = new boolean[x.length];
    for (int i = 0; i < x.length; i++) {
      front[i] = !Double.isNaN(x[i]) && !Double.isNaN(y[i]);
      for (int j = 0; j < x.length && front[i]; j++) {
        // Comparisons with NaN are false: such a point does not beat this one.
        front[i] = !(x[j] >= x[i] && y[j] >= y[i] && (x[j] > x[i] || y[j] > y[i]));
      }
    }
    return front;
  }
}
