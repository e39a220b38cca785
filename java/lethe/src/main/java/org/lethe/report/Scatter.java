package org.lethe.report;

import java.util.List;

/**
 * Points of two measures that are both to be large, with the front of those that no other beats.
 *
 * @param title what they show
 * @param meaning a sentence or two for a reader who sees such a picture for the first time
 * @param xLabel what the abscissa is
 * @param yLabel what the ordinate is
 * @param points those with a value that is not finite are left out
 */
public record Scatter(
    String title, String meaning, String xLabel, String yLabel, List<Point> points) {
  public Scatter {
    points = List.copyOf(points);
  }

  /** What a point stands for. */
  public enum Kind {
    /** A candidate that no other beats in both measures. */
    FRONT,
    /** A candidate that another one beats. */
    BEATEN,
    /** What the candidates started from. */
    START,
    /** What they are compared with. */
    YARDSTICK
  }

  /**
   * A point.
   *
   * @param mark short, always shown where there is room, such as a number
   * @param name shown behind the mark where there is room, and under the pointer
   * @param group points of one group share a colour, which the legend names; empty: none
   */
  public record Point(String mark, String name, String group, Kind kind, double x, double y) {
    boolean isFinite() {
      return Double.isFinite(x) && Double.isFinite(y);
    }

    String label() {
      return (mark + " " + name).strip();
    }
  }
}
