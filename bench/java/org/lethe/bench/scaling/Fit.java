package org.lethe.bench.scaling;

import java.util.ArrayList;
import java.util.List;
import java.util.Locale;
import java.util.function.ToDoubleFunction;

/**
 * How a cost y grows with x: the exponent e of y ~ x^e, over each decade and around each point. 1
 * is linear; outside of {@link #LOW} to {@link #HIGH} it is called something else.
 */
final class Fit {
  static final double LOW = 0.9;
  static final double HIGH = 1.1;

  private final List<Point> points;

  Fit(List<Point> all) {
    this.points = all.stream().filter(Point::ran).toList();
  }

  /**
   * The least-squares exponent of a decade of x.
   *
   * @param from the first x of it
   * @param to the last
   */
  record Decade(double from, double to, double exponent) {}

  /**
   * A stretch of the curve of one behaviour.
   *
   * @param exponent of time over the stretch
   * @param work of floating-point operations over it
   * @param rate of operations per second over it: work - exponent
   */
  record Stretch(double from, double to, double exponent, double work, double rate) {
    boolean linear() {
      return exponent >= LOW && exponent <= HIGH;
    }

    String words() {
      String range = String.format(Locale.ROOT, "%s to %s: ", whole(from), whole(to));
      if (linear()) {
        return range + String.format(Locale.ROOT, "linear (exponent %.2f)", exponent);
      }
      String what = exponent < LOW ? "less than linear" : "more than linear";
      return range + String.format(Locale.ROOT, "%s (exponent %.2f): %s", what, exponent, why());
    }

    /** The larger of the two causes that an exponent other than 1 can have. */
    private String why() {
      if (Math.abs(work - 1) >= Math.abs(rate)) {
        return String.format(Locale.ROOT, "the work itself grows with exponent %.2f", work);
      }
      String trend = rate > 0 ? "rises" : "falls";
      return String.format(
          Locale.ROOT, "the rate %s with exponent %.2f, work grows with %.2f", trend, rate, work);
    }
  }

  /** Where a decade holds two points or more. */
  List<Decade> decades() {
    List<Decade> decades = new ArrayList<>();
    int begin = 0;
    while (begin + 1 < points.size()) {
      int end = begin + 1;
      // Ten times the first, with room for sizes that are powers of two.
      while (end + 1 < points.size() && points.get(end + 1).x() <= 10.3 * points.get(begin).x()) {
        end++;
      }
      decades.add(
          new Decade(points.get(begin).x(), points.get(end).x(), slope(begin, end, Point::median)));
      begin = end;
    }
    return decades;
  }

  /** Around each point: over its neighbours, so that one disturbed point does not decide. */
  List<Double> local() {
    List<Double> exponents = new ArrayList<>();
    for (int i = 0; i < points.size() && points.size() > 1; i++) {
      exponents.add(slope(Math.max(0, i - 1), Math.min(points.size() - 1, i + 1), Point::median));
    }
    return exponents;
  }

  /** Neighbouring intervals of one behaviour together. */
  List<Stretch> stretches() {
    List<int[]> ranges = new ArrayList<>();
    List<Double> local = local();
    int begin = 0;
    for (int i = 0; i < local.size(); i++) {
      boolean ends =
          i + 1 == local.size() || behaviour(local.get(i + 1)) != behaviour(local.get(i));
      if (ends) {
        // A stretch reaches to where the next begins.
        int end = Math.min(i + 1, local.size() - 1);
        if (end > begin) {
          join(ranges, begin, end);
        }
        begin = end;
      }
    }
    return ranges.stream().map(range -> stretch(range[0], range[1])).toList();
  }

  /** Adds a range, to the last one where both behave alike as wholes. */
  private void join(List<int[]> ranges, int begin, int end) {
    int[] last = ranges.isEmpty() ? null : ranges.get(ranges.size() - 1);
    boolean alike =
        last != null
            && behaviour(slope(last[0], last[1], Point::median))
                == behaviour(slope(begin, end, Point::median));
    if (alike) {
      last[1] = end;
    } else {
      ranges.add(new int[] {begin, end});
    }
  }

  private Stretch stretch(int begin, int end) {
    double exponent = slope(begin, end, Point::median);
    double work = slope(begin, end, Point::gflop);
    return new Stretch(points.get(begin).x(), points.get(end).x(), exponent, work, work - exponent);
  }

  private static int behaviour(double exponent) {
    return exponent < LOW ? -1 : exponent > HIGH ? 1 : 0;
  }

  private double slope(int begin, int end, ToDoubleFunction<Point> y) {
    double meanX = 0;
    double meanY = 0;
    int n = end - begin + 1;
    for (int i = begin; i <= end; i++) {
      meanX += Math.log(points.get(i).x()) / n;
      meanY += Math.log(y.applyAsDouble(points.get(i))) / n;
    }
    double above = 0;
    double below = 0;
    for (int i = begin; i <= end; i++) {
      double x = Math.log(points.get(i).x()) - meanX;
      above += x * (Math.log(y.applyAsDouble(points.get(i))) - meanY);
      below += x * x;
    }
    return above / below;
  }

  /** A number without decimals, in thousands where that is exact enough. */
  static String whole(double x) {
    if (x >= 1e9) {
      return String.format(Locale.ROOT, "%.1fB", x / 1e9);
    }
    return x >= 1e6
        ? String.format(Locale.ROOT, "%.0fM", x / 1e6)
        : String.format(Locale.ROOT, "%.0f", x);
  }
}
