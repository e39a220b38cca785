package org.lethe.report;

import java.util.ArrayList;
import java.util.Comparator;
import java.util.Formatter;
import java.util.List;
import java.util.Locale;
import org.lethe.report.Scatter.Kind;
import org.lethe.report.Scatter.Point;

/** Draws a scatter as inline SVG under a legend; colours come from the page's style sheet. */
final class ScatterChart {
  private static final int WIDTH = 760;
  private static final int HEIGHT = 440;
  private static final int RIGHT = 24;
  private static final int TOP = 48;
  private static final int BOTTOM = 46;
  private static final int GAP = 8;

  /** Labels may stand above the frame, below the ordinate's name. */
  private static final int LABELS_FROM = 22;

  /** Half the width of a mark. */
  private static final double MARK = 5;

  /** Width of a digit of the chart's font, rounded up. */
  private static final double DIGIT = 7.6;

  /** Classes c0, c1, ... of the style sheet. */
  private static final int COLOURS = 8;

  private final List<Point> points;
  private final List<String> groups;
  private final Scatter scatter;
  private final Axis x;
  private final Axis y;
  private final int left;
  private final Formatter out = new Formatter(Locale.ROOT);

  private ScatterChart(Scatter scatter, List<Point> points) {
    this.scatter = scatter;
    this.points = points;
    this.groups = points.stream().map(Point::group).filter(g -> !g.isEmpty()).distinct().toList();
    this.x = axis(points.stream().mapToDouble(Point::x).toArray());
    this.y = axis(points.stream().mapToDouble(Point::y).toArray());
    int longest = y.ticks().stream().mapToInt(tick -> tick.label().length()).max().orElse(1);
    this.left = Math.max(32, (int) (longest * DIGIT)) + GAP + GAP / 2;
  }

  /** The chart, or a sentence where no point is finite. */
  static String html(Scatter scatter) {
    List<Point> points = scatter.points().stream().filter(Point::isFinite).toList();
    return points.isEmpty()
        ? "<p>" + Html.escape(scatter.title()) + ": no finite values.</p>\n"
        : new ScatterChart(scatter, points).draw();
  }

  /** Linear always: points that differ by a constant amount must look so. */
  private static Axis axis(double[] values) {
    double low = values[0];
    double high = values[0];
    for (double value : values) {
      low = Math.min(low, value);
      high = Math.max(high, value);
    }
    return Axis.over(
        low, high, low > 0 && low < 0.3 * high ? Chart.Scale.FROM_ZERO : Chart.Scale.AUTO);
  }

  private String draw() {
    legend();
    out.format(
        "<svg class=\"chart\" viewBox=\"0 0 %d %d\" role=\"img\" aria-label=\"%s\""
            + " xmlns=\"http://www.w3.org/2000/svg\">\n",
        WIDTH, HEIGHT, Html.escape(scatter.title()));
    text("", "start", GAP / 2.0, 2 * GAP, scatter.yLabel());
    text("", "end", WIDTH - RIGHT, HEIGHT - GAP, scatter.xLabel());
    for (Axis.Tick tick : y.ticks()) {
      double at = yPixel(tick.at());
      line("grid", left, at, WIDTH - RIGHT, at);
      text("", "end", left - GAP, at + 4, tick.label());
    }
    for (Axis.Tick tick : x.ticks()) {
      double at = xPixel(tick.at());
      line("grid", at, TOP, at, HEIGHT - BOTTOM);
      text("", "middle", at, HEIGHT - BOTTOM + 18, tick.label());
    }
    line("axis", left, HEIGHT - BOTTOM, WIDTH - RIGHT, HEIGHT - BOTTOM);
    front();
    // What lies on the front is drawn last, over what it hides.
    List<Point> order =
        points.stream().sorted(Comparator.comparing(p -> p.kind() == Kind.FRONT)).toList();
    order.forEach(this::mark);
    labels();
    return out.format("</svg>\n").toString();
  }

  /** The corners of the stairs below which every point is beaten, from the left. */
  private List<double[]> stairs() {
    List<Point> front =
        points.stream()
            .filter(p -> p.kind() == Kind.FRONT)
            .sorted(Comparator.comparingDouble(Point::x).thenComparingDouble(Point::y))
            .toList();
    List<double[]> corners = new ArrayList<>();
    for (int i = 0; i < front.size(); i++) {
      double level = yPixel(front.get(i).y());
      if (i == 0) {
        corners.add(new double[] {left, level});
      }
      double right = xPixel(front.get(i).x());
      double below = i + 1 < front.size() ? yPixel(front.get(i + 1).y()) : HEIGHT - BOTTOM;
      corners.add(new double[] {right, level});
      corners.add(new double[] {right, below});
    }
    return corners;
  }

  private void front() {
    StringBuilder path = new StringBuilder();
    for (double[] corner : stairs()) {
      path.append(at(path.isEmpty() ? "M" : "L", corner[0], corner[1]));
    }
    if (!path.isEmpty()) {
      out.format("<path class=\"front\" d=\"%s\"/>\n", path);
    }
  }

  private static String at(String command, double atX, double atY) {
    return String.format(Locale.ROOT, "%s%.1f %.1f", command, atX, atY);
  }

  private void mark(Point p) {
    shape(p.kind(), colour(p), xPixel(p.x()), yPixel(p.y()), title(p));
  }

  private String title(Point p) {
    return "<title>"
        + Html.escape(
            p.label()
                + ": "
                + scatter.xLabel()
                + " "
                + Numbers.score(p.x())
                + ", "
                + scatter.yLabel()
                + " "
                + Numbers.score(p.y()))
        + "</title>";
  }

  private String colour(Point p) {
    int group = groups.indexOf(p.group());
    return group < 0 ? "c7" : "c" + group % COLOURS;
  }

  /** Kinds differ in shape, so that they are told apart without colours, too. */
  private void shape(Kind kind, String colour, double cx, double cy, String inside) {
    switch (kind) {
      case FRONT ->
          out.format(
              "<circle class=\"dot %s\" cx=\"%.1f\" cy=\"%.1f\" r=\"%.1f\">%s</circle>\n",
              colour, cx, cy, MARK + 1, inside);
      case BEATEN ->
          out.format(
              "<circle class=\"ring %s\" cx=\"%.1f\" cy=\"%.1f\" r=\"%.1f\">%s</circle>\n",
              colour, cx, cy, MARK - 0.5, inside);
      case START ->
          out.format(
              "<rect class=\"given\" x=\"%.1f\" y=\"%.1f\" width=\"%.1f\""
                  + " height=\"%.1f\">%s</rect>\n",
              cx - MARK, cy - MARK, 2 * MARK, 2 * MARK, inside);
      case YARDSTICK ->
          out.format(
              "<path class=\"given\" d=\"%s%s%s%sZ\">%s</path>\n",
              at("M", cx, cy - MARK - 2),
              at("L", cx + MARK + 2, cy),
              at("L", cx, cy + MARK + 2),
              at("L", cx - MARK - 2, cy),
              inside);
    }
  }

  private void labels() {
    LabelPlaces places =
        new LabelPlaces(left, LABELS_FROM, WIDTH - GAP / 2.0, HEIGHT - BOTTOM, DIGIT);
    points.forEach(p -> places.occupy(xPixel(p.x()), yPixel(p.y()), MARK + 1));
    List<double[]> stairs = stairs();
    for (int i = 1; i < stairs.size(); i++) {
      double[] from = stairs.get(i - 1);
      places.occupy(from[0], from[1], stairs.get(i)[0], stairs.get(i)[1]);
    }
    List<Point> order =
        points.stream().sorted(Comparator.comparing(p -> p.kind() == Kind.BEATEN)).toList();
    List<Point> unnamed = new ArrayList<>();
    // Every mark comes before the names of beaten points: a number is found in the table.
    for (Point p : order) {
      if (p.kind() == Kind.BEATEN || !label(places, p, p.label())) {
        unnamed.add(p);
      }
    }
    boolean roomy = unnamed.size() <= 12;
    for (Point p : unnamed) {
      if (!roomy || !label(places, p, p.label())) {
        label(places, p, p.mark());
      }
    }
  }

  private boolean label(LabelPlaces places, Point p, String words) {
    return places
        .place(xPixel(p.x()), yPixel(p.y()), MARK + 1, words)
        .map(
            place -> {
              text(
                  p.kind() == Kind.BEATEN ? "" : " class=\"strong\"",
                  place.anchor(),
                  place.x(),
                  place.baseline(),
                  words);
              return true;
            })
        .orElse(false);
  }

  private void legend() {
    out.format("<ul class=\"legend\">\n");
    if (groups.size() > 1) {
      for (String group : groups) {
        entry(Kind.FRONT, "c" + groups.indexOf(group) % COLOURS, group);
      }
    }
    for (Kind kind : Kind.values()) {
      if (points.stream().anyMatch(p -> p.kind() == kind)) {
        entry(kind, "c7", name(kind));
      }
    }
    out.format("</ul>\n");
  }

  private static String name(Kind kind) {
    return switch (kind) {
      case FRONT -> "on the Pareto front";
      case BEATEN -> "beaten by another run";
      case START -> "before";
      case YARDSTICK -> "never saw the forget set";
    };
  }

  private void entry(Kind kind, String colour, String name) {
    out.format(
        "<li><svg class=\"swatch\" viewBox=\"0 0 28 16\" aria-hidden=\"true\""
            + " xmlns=\"http://www.w3.org/2000/svg\">");
    shape(kind, colour, 14, 8, "");
    out.format("</svg>%s</li>\n", Html.escape(name));
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

  private void text(String attributes, String anchor, double atX, double atY, String words) {
    out.format(
        "<text%s x=\"%.1f\" y=\"%.1f\" text-anchor=\"%s\">%s</text>\n",
        attributes, atX, atY, anchor, Html.escape(words));
  }
}
