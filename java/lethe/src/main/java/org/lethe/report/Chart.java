package org.lethe.report;

import java.util.List;

/**
 * Curves over the same abscissa, drawn together.
 *
 * @param title what they show
 * @param meaning a sentence for a reader who sees such numbers for the first time; may be empty
 * @param xLabel what the abscissa is
 * @param yLabel what the ordinate is, with its unit
 * @param scale of the ordinate
 * @param dots whether each value is marked, as fits a few measurements
 * @param series at least one; a legend names them when there are several
 * @param markers events along the abscissa
 */
public record Chart(
    String title,
    String meaning,
    String xLabel,
    String yLabel,
    Scale scale,
    boolean dots,
    List<Series> series,
    List<Marker> markers) {
  public Chart {
    series = List.copyOf(series);
    markers = List.copyOf(markers);
  }

  /** Range of the ordinate. */
  public enum Scale {
    /**
     * As the values need; logarithmic when all are positive and span more than three decades, so
     * that one spike does not press everything else flat.
     */
    AUTO,
    /** From 0 to 1: probabilities and shares, comparable between charts. */
    UNIT,
    /** From 0: amounts. */
    FROM_ZERO,
    /** Logarithmic whatever the values span; all are positive. */
    LOG
  }

  /**
   * An event at {@code x}.
   *
   * @param kind what happened
   */
  public record Marker(Kind kind, double x) {}

  /** Kinds of events; {@link #label} is what the legend calls them. */
  public enum Kind {
    SKIPPED("skipped step"),
    RESUMED("resumed here");

    private final String label;

    Kind(String label) {
      this.label = label;
    }

    /** What the legend says. */
    public String label() {
      return label;
    }
  }

  /** One curve alone. */
  public static Chart of(Series series) {
    return new Chart(
        series.name(), "", "step", series.name(), Scale.AUTO, false, List.of(series), List.of());
  }
}
