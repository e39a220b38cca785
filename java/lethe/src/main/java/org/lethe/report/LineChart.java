package org.lethe.report;

import java.util.ArrayList;
import java.util.EnumSet;
import java.util.Formatter;
import java.util.List;
import java.util.Locale;
import java.util.Set;
import java.util.TreeSet;

/** Draws a chart as inline SVG under a legend; colours come from the page's style sheet. */
final class LineChart {
  static final int WIDTH = 560;
  static final int HEIGHT = 300;
  private static final int RIGHT = 18;
  private static final int TOP = 30;
  private static final int BOTTOM = 46;
  private static final int GAP = 8;

  /** Width of a digit of the chart's font, rounded up. */
  private static final int DIGIT = 8;

  /** More points than this are thinned: the eye sees no more on this width. */
  private static final int MOST_POINTS = 2 * WIDTH;

  /** More dots than this would hide the curve that they are on. */
  private static final int MOST_DOTS = 60;

  /** Classes c0, c1, ... of the style sheet. */
  static final int COLOURS = 8;

  private final Chart chart;
  private final Axis x;
  private final Axis y;
  private final int left;
  private final Formatter out = new Formatter(Locale.ROOT);

  private LineChart(Chart chart, Axis x, Axis y) {
    this.chart = chart;
    this.x = x;
    this.y = y;
    int longest = y.ticks().stream().mapToInt(tick -> tick.label().length()).max().orElse(1);
    this.left = Math.max(4 * DIGIT, longest * DIGIT) + GAP + GAP / 2;
  }

  /** The chart, or a sentence where no value is finite. */
  static String html(Chart chart) {
    double[] xs = empty();
    double[] ys = empty();
    widen(chart, xs, ys);
    if (xs[0] > xs[1]) {
      return "<p>" + Html.escape(chart.title()) + ": no finite values.</p>\n";
    }
    chart.markers().forEach(marker -> widen(xs, marker.x()));
    Axis x = Axis.overSteps(xs[0], xs[1]);
    LineChart drawn = new LineChart(chart, x, Axis.over(ys[0], ys[1], chart.scale()));
    drawn.legend();
    return drawn.draw();
  }

  /** The frame and the curves without a legend, over a logarithmic abscissa; all x are positive. */
  static String overLog(Chart chart) {
    double[] xs = empty();
    double[] ys = empty();
    widen(chart, xs, ys);
    Axis x = Axis.over(xs[0], xs[1], Chart.Scale.LOG);
    return new LineChart(chart, x, Axis.over(ys[0], ys[1], chart.scale())).draw();
  }

  /** Whether any value can be drawn. */
  static boolean hasValues(Chart chart) {
    double[] xs = empty();
    widen(chart, xs, empty());
    return xs[0] <= xs[1];
  }

  private static double[] empty() {
    return new double[] {Double.POSITIVE_INFINITY, Double.NEGATIVE_INFINITY};
  }

  private static void widen(Chart chart, double[] xs, double[] ys) {
    for (Series series : chart.series()) {
      for (int i = 0; i < series.x().size(); i++) {
        if (isFinite(series, i)) {
          widen(xs, series.x().get(i));
          widen(ys, series.y().get(i));
        }
      }
    }
  }

  private static void widen(double[] range, double value) {
    range[0] = Math.min(range[0], value);
    range[1] = Math.max(range[1], value);
  }

  private static boolean isFinite(Series series, int i) {
    return Double.isFinite(series.x().get(i)) && Double.isFinite(series.y().get(i));
  }

  private String draw() {
    String name = Html.escape(chart.title());
    out.format(
        "<svg class=\"chart\" viewBox=\"0 0 %d %d\" role=\"img\" aria-label=\"%s\""
            + " xmlns=\"http://www.w3.org/2000/svg\">\n",
        WIDTH, HEIGHT, name);
    text("start", GAP / 2, TOP - 2 * GAP, chart.yLabel() + (y.log() ? " (log scale)" : ""));
    text("end", WIDTH - RIGHT, HEIGHT - GAP, chart.xLabel());
    for (Axis.Tick tick : y.ticks()) {
      double at = yPixel(tick.at());
      line("grid", left, at, WIDTH - RIGHT, at);
      text("end", left - GAP, at + 4, tick.label());
    }
    for (Axis.Tick tick : x.ticks()) {
      double at = xPixel(tick.at());
      line("tick", at, HEIGHT - BOTTOM, at, HEIGHT - BOTTOM + 5);
      boolean overflows = at + tick.label().length() * DIGIT / 2.0 > WIDTH;
      text(
          overflows ? "end" : "middle",
          overflows ? WIDTH - 2 : at,
          HEIGHT - BOTTOM + 18,
          tick.label());
    }
    line("axis", left, HEIGHT - BOTTOM, WIDTH - RIGHT, HEIGHT - BOTTOM);
    markers();
    for (int i = 0; i < chart.series().size(); i++) {
      curve(chart.series().get(i), "c" + i % COLOURS);
    }
    return out.format("</svg>\n").toString();
  }

  private void legend() {
    Set<Chart.Kind> kinds = EnumSet.noneOf(Chart.Kind.class);
    chart.markers().forEach(marker -> kinds.add(marker.kind()));
    if (chart.series().size() < 2 && kinds.isEmpty()) {
      return;
    }
    out.format("<ul class=\"legend\">\n");
    for (int i = 0; i < chart.series().size() && chart.series().size() > 1; i++) {
      legendEntry("curve c" + i % COLOURS, chart.series().get(i).name());
    }
    kinds.forEach(kind -> legendEntry(markerClass(kind), kind.label()));
    out.format("</ul>\n");
  }

  private void legendEntry(String styles, String name) {
    out.format(
        "<li><svg class=\"swatch\" viewBox=\"0 0 28 10\" aria-hidden=\"true\""
            + " xmlns=\"http://www.w3.org/2000/svg\"><line class=\"%s\" x1=\"1\" y1=\"5\""
            + " x2=\"27\" y2=\"5\"/></svg>%s</li>\n",
        styles, Html.escape(name));
  }

  /** Events on the same pixel are one line. */
  private void markers() {
    for (Chart.Kind kind : Chart.Kind.values()) {
      Set<Long> pixels = new TreeSet<>();
      chart.markers().stream()
          .filter(marker -> marker.kind() == kind)
          .forEach(marker -> pixels.add(Math.round(xPixel(marker.x()))));
      pixels.forEach(at -> line(markerClass(kind), at, TOP, at, HEIGHT - BOTTOM));
    }
  }

  private static String markerClass(Chart.Kind kind) {
    return "marker " + kind.name().toLowerCase(Locale.ROOT);
  }

  private void curve(Series series, String colour) {
    StringBuilder path = new StringBuilder();
    List<Integer> dots = new ArrayList<>();
    List<Integer> run = new ArrayList<>();
    for (int i = 0; i <= series.x().size(); i++) {
      if (i < series.x().size() && isFinite(series, i)) {
        run.add(i);
        continue;
      }
      // A value between two gaps has no line to be seen by.
      if ((chart.dots() && series.x().size() <= MOST_DOTS) || run.size() == 1) {
        dots.addAll(run);
      }
      boolean pen = false;
      for (int at : thinned(series, run)) {
        path.append(
            String.format(
                Locale.ROOT,
                "%s%.1f %.1f",
                pen ? "L" : "M",
                xPixel(series.x().get(at)),
                yPixel(series.y().get(at))));
        pen = true;
      }
      run.clear();
    }
    out.format("<path class=\"curve %s\" d=\"%s\"/>\n", colour, path);
    for (int i : dots) {
      out.format(
          "<circle class=\"dot %s\" cx=\"%.1f\" cy=\"%.1f\" r=\"3\"><title>%s</title></circle>\n",
          colour,
          xPixel(series.x().get(i)),
          yPixel(series.y().get(i)),
          Html.escape(
              series.name()
                  + " "
                  + Numbers.format(series.y().get(i))
                  + " at "
                  + Numbers.format(series.x().get(i))));
    }
  }

  /** The lowest and the highest value of each stretch, so that no spike is lost, and both ends. */
  private static List<Integer> thinned(Series series, List<Integer> run) {
    if (run.size() <= MOST_POINTS) {
      return List.copyOf(run);
    }
    Set<Integer> kept = new TreeSet<>(List.of(run.get(0), run.get(run.size() - 1)));
    int stretches = MOST_POINTS / 2;
    for (int s = 0; s < stretches; s++) {
      int from = (int) ((long) run.size() * s / stretches);
      int to = (int) ((long) run.size() * (s + 1) / stretches);
      int lowest = run.get(from);
      int highest = lowest;
      for (int i : run.subList(from, to)) {
        lowest = series.y().get(i) < series.y().get(lowest) ? i : lowest;
        highest = series.y().get(i) > series.y().get(highest) ? i : highest;
      }
      kept.add(lowest);
      kept.add(highest);
    }
    return List.copyOf(kept);
  }

  private double xPixel(double value) {
    return left + x.fraction(value) * (WIDTH - left - RIGHT);
  }

  private double yPixel(double value) {
    return HEIGHT - BOTTOM - y.fraction(value) * (HEIGHT - TOP - BOTTOM);
  }

  private void line(String styles, double x1, double y1, double x2, double y2) {
    out.format(
        "<line class=\"%s\" x1=\"%.1f\" y1=\"%.1f\" x2=\"%.1f\" y2=\"%.1f\"/>\n",
        styles, x1, y1, x2, y2);
  }

  private void text(String anchor, double atX, double atY, String words) {
    out.format(
        "<text x=\"%.1f\" y=\"%.1f\" text-anchor=\"%s\">%s</text>\n",
        atX, atY, anchor, Html.escape(words));
  }
}
