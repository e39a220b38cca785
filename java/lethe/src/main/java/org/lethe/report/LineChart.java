package org.lethe.report;

import java.util.ArrayList;
import java.util.List;
import java.util.Locale;

/** Draws one curve as inline SVG; colours come from the page's style sheet. */
final class LineChart {
  private static final int WIDTH = 720;
  private static final int HEIGHT = 260;
  private static final int LEFT = 64;
  private static final int RIGHT = 16;
  private static final int TOP = 12;
  private static final int BOTTOM = 32;
  private static final int TICKS = 5;

  /** More points than this are thinned: the eye sees no more on this width. */
  private static final int MAX_POINTS = 2 * WIDTH;

  private LineChart() {}

  /** The chart, or a sentence where no value is finite. */
  static String svg(Series series) {
    List<double[]> finite = new ArrayList<>();
    for (int i = 0; i < series.x().size(); i++) {
      if (Double.isFinite(series.x().get(i)) && Double.isFinite(series.y().get(i))) {
        finite.add(new double[] {series.x().get(i), series.y().get(i)});
      }
    }
    if (finite.isEmpty()) {
      return "<p>" + Html.escape(series.name()) + ": no finite values.</p>\n";
    }
    Axis x = Axis.over(finite.stream().mapToDouble(p -> p[0]).toArray());
    Axis y = Axis.over(finite.stream().mapToDouble(p -> p[1]).toArray());
    String name = Html.escape(series.name());
    StringBuilder out = new StringBuilder();
    out.append(
        String.format(
            Locale.ROOT,
            "<svg class=\"chart\" viewBox=\"0 0 %d %d\" role=\"img\" aria-label=\"%s\""
                + " xmlns=\"http://www.w3.org/2000/svg\">\n<title>%s</title>\n",
            WIDTH,
            HEIGHT,
            name,
            name));
    for (double tick : y.ticks()) {
      double at = yPixel(y, tick);
      line(out, "grid", LEFT, at, WIDTH - RIGHT, at);
      text(out, "end", LEFT - 8, at + 4, Axis.label(tick, y.step()));
    }
    for (double tick : x.ticks()) {
      double at = xPixel(x, tick);
      line(out, "tick", at, HEIGHT - BOTTOM, at, HEIGHT - BOTTOM + 5);
      text(out, "middle", at, HEIGHT - BOTTOM + 20, Axis.label(tick, x.step()));
    }
    line(out, "axis", LEFT, HEIGHT - BOTTOM, WIDTH - RIGHT, HEIGHT - BOTTOM);
    curve(out, series, x, y);
    return out.append("</svg>\n").toString();
  }

  private static void curve(StringBuilder out, Series series, Axis x, Axis y) {
    int stride = Math.max(1, (series.x().size() + MAX_POINTS - 1) / MAX_POINTS);
    StringBuilder path = new StringBuilder();
    StringBuilder dots = new StringBuilder();
    boolean pen = false;
    int run = 0;
    double lastX = 0;
    double lastY = 0;
    for (int i = 0; i <= series.x().size(); i++) {
      boolean last = i == series.x().size();
      boolean finite =
          !last && Double.isFinite(series.x().get(i)) && Double.isFinite(series.y().get(i));
      if (finite && i % stride != 0 && i != series.x().size() - 1) {
        continue;
      }
      if (!finite) {
        // A value between two gaps has no line to be seen by.
        if (run == 1) {
          dots.append(
              String.format(
                  Locale.ROOT,
                  "<circle class=\"dot\" cx=\"%.1f\" cy=\"%.1f\" r=\"3\"/>\n",
                  lastX,
                  lastY));
        }
        pen = false;
        run = 0;
        continue;
      }
      lastX = xPixel(x, series.x().get(i));
      lastY = yPixel(y, series.y().get(i));
      path.append(String.format(Locale.ROOT, "%s%.1f %.1f", pen ? "L" : "M", lastX, lastY));
      pen = true;
      run++;
    }
    out.append("<path class=\"curve\" d=\"").append(path).append("\"/>\n").append(dots);
  }

  private static double xPixel(Axis axis, double value) {
    return LEFT + axis.fraction(value) * (WIDTH - LEFT - RIGHT);
  }

  private static double yPixel(Axis axis, double value) {
    return HEIGHT - BOTTOM - axis.fraction(value) * (HEIGHT - TOP - BOTTOM);
  }

  private static void line(
      StringBuilder out, String kind, double x1, double y1, double x2, double y2) {
    out.append(
        String.format(
            Locale.ROOT,
            "<line class=\"%s\" x1=\"%.1f\" y1=\"%.1f\" x2=\"%.1f\" y2=\"%.1f\"/>\n",
            kind,
            x1,
            y1,
            x2,
            y2));
  }

  private static void text(StringBuilder out, String anchor, double x, double y, String words) {
    out.append(
        String.format(
            Locale.ROOT,
            "<text x=\"%.1f\" y=\"%.1f\" text-anchor=\"%s\">%s</text>\n",
            x,
            y,
            anchor,
            words));
  }

  /**
   * A range of values cut at round numbers.
   *
   * @param low first value shown
   * @param high last value shown, above {@code low}
   * @param step distance of ticks
   */
  record Axis(double low, double high, double step) {
    static Axis over(double... values) {
      double low = Double.POSITIVE_INFINITY;
      double high = Double.NEGATIVE_INFINITY;
      for (double value : values) {
        low = Math.min(low, value);
        high = Math.max(high, value);
      }
      // Halved, so that the distance of two huge values does not overflow.
      double half = high / 2 - low / 2;
      double smallest = Math.max(Math.abs(low), Math.abs(high)) * 1e-9;
      if (half <= smallest) {
        half = Math.max(0.5 * Math.max(Math.abs(low), Math.abs(high)), 0.5);
        low -= half / 2;
        high += half / 2;
      }
      double rough = (high / TICKS - low / TICKS);
      double power = StrictMath.pow(10, StrictMath.floor(StrictMath.log10(rough)));
      double step = 10 * power;
      for (double factor : new double[] {1, 2, 5}) {
        if (factor * power >= rough) {
          step = factor * power;
          break;
        }
      }
      return new Axis(low, high, step);
    }

    double fraction(double value) {
      return (value / 2 - low / 2) / (high / 2 - low / 2);
    }

    List<Double> ticks() {
      List<Double> ticks = new ArrayList<>();
      double first = StrictMath.ceil(low / step);
      for (int i = 0; (first + i) * step <= high && i <= 2 * TICKS; i++) {
        ticks.add((first + i) * step);
      }
      return List.copyOf(ticks);
    }

    static String label(double value, double step) {
      double magnitude = Math.max(Math.abs(value), step);
      if (magnitude >= 1e6 || step < 1e-4) {
        return String.format(Locale.ROOT, "%.2e", value);
      }
      int decimals = (int) Math.max(0, -StrictMath.floor(StrictMath.log10(step)));
      return String.format(Locale.ROOT, "%." + decimals + "f", value);
    }
  }
}
