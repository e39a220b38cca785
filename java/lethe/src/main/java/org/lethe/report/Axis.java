package org.lethe.report;

import java.math.BigDecimal;
import java.math.RoundingMode;
import java.util.ArrayList;
import java.util.List;
import java.util.stream.Stream;

/**
 * A range of values cut at round numbers.
 *
 * @param low first value shown
 * @param high last value shown, above {@code low}
 * @param log whether equal distances are equal ratios; both ends are then positive
 * @param ticks where it is cut, ascending
 */
record Axis(double low, double high, boolean log, List<Tick> ticks) {
  /** Values that span more than this are shown by their logarithm, when they have one. */
  private static final double LOG_RATIO = 1000;

  /** Ticks that are aimed at, and the most decades that are all named. */
  private static final int TICKS = 5;

  private static final int MOST_DECADES = 8;

  /** Below this the values are one value, and digits that tell them apart would fill the margin. */
  private static final double FLAT = 1e-7;

  /** Outside of this, powers of ten are easier to read than zeros. */
  private static final double PLAIN_FROM = 0.01;

  private static final double PLAIN_BELOW = 100_000;

  /**
   * A cut.
   *
   * @param at its value
   */
  record Tick(double at, String label) {}

  /** Exactly over the values: an abscissa of whole numbers. */
  static Axis overSteps(double low, double high) {
    double[] range = {low, high};
    widenFlat(range);
    return linear(range[0], range[1], step(range[0], range[1], 1));
  }

  /** An ordinate over finite values from {@code low} to {@code high}. */
  static Axis over(double low, double high, Chart.Scale scale) {
    return switch (scale) {
      case UNIT -> outwards(Math.min(0, low), Math.max(1, high));
      case FROM_ZERO -> outwards(Math.min(0, low), Math.max(high, Double.MIN_NORMAL));
      case LOG -> logarithmic(low, high);
      case AUTO -> low > 0 && high / low > LOG_RATIO ? logarithmic(low, high) : auto(low, high);
    };
  }

  private static Axis auto(double low, double high) {
    double[] range = {low, high};
    widenFlat(range);
    // Where 0 is near, a curve is easier to judge against it.
    return outwards(range[0] > 0 && range[0] < 0.3 * range[1] ? 0 : range[0], range[1]);
  }

  private static void widenFlat(double[] range) {
    double largest = Math.max(Math.abs(range[0]), Math.abs(range[1]));
    // Halved, so that the distance of two huge values does not overflow.
    if (range[1] / 2 - range[0] / 2 <= largest * FLAT) {
      double by = largest == 0 ? 0.25 : Math.max(0.25 * largest, Double.MIN_NORMAL);
      range[0] = Math.max(range[0] - by, -Double.MAX_VALUE);
      range[1] = Math.min(range[1] + by, Double.MAX_VALUE);
    }
  }

  /** Up to round numbers on both sides, so that the uppermost line is above the curve. */
  private static Axis outwards(double low, double high) {
    BigDecimal step = step(low, high, 0);
    double size = step.doubleValue();
    double below = StrictMath.floor(low / size) * size;
    double above = StrictMath.ceil(high / size) * size;
    boolean finite = Double.isFinite(below) && Double.isFinite(above);
    return finite ? linear(below, above, step) : linear(low, high, step);
  }

  private static Axis linear(double low, double high, BigDecimal step) {
    double largest = Math.max(Math.abs(low), Math.abs(high));
    List<Tick> ticks = new ArrayList<>();
    double first = StrictMath.ceil(low / step.doubleValue());
    for (int i = 0; i <= 2 * TICKS; i++) {
      BigDecimal at = step.multiply(new BigDecimal(first + i));
      if (at.doubleValue() <= high) {
        ticks.add(new Tick(at.doubleValue(), label(at, step, largest)));
      }
    }
    return new Axis(low, high, false, List.copyOf(ticks));
  }

  /** 1, 2 or 5 times a power of ten. */
  private static BigDecimal step(double low, double high, double least) {
    double rough = Math.max(high / TICKS - low / TICKS, Math.max(least, Double.MIN_NORMAL));
    int exponent = (int) StrictMath.floor(StrictMath.log10(rough));
    return Stream.of(1, 2, 5)
        .map(factor -> BigDecimal.valueOf(factor).scaleByPowerOfTen(exponent))
        .filter(step -> step.doubleValue() >= rough)
        .findFirst()
        .orElse(BigDecimal.TEN.scaleByPowerOfTen(exponent));
  }

  private static Axis logarithmic(double low, double high) {
    int from = (int) StrictMath.floor(StrictMath.log10(low));
    int to = Math.max(from + 1, (int) StrictMath.ceil(StrictMath.log10(high)));
    int stride = (to - from + MOST_DECADES - 1) / MOST_DECADES;
    List<Tick> ticks = new ArrayList<>();
    // The outermost powers of ten may be no double.
    double below = Math.max(BigDecimal.ONE.scaleByPowerOfTen(from).doubleValue(), Double.MIN_VALUE);
    double above = Math.min(BigDecimal.ONE.scaleByPowerOfTen(to).doubleValue(), Double.MAX_VALUE);
    for (int decade = from; decade <= to; decade += stride) {
      BigDecimal power = BigDecimal.ONE.scaleByPowerOfTen(decade);
      double at = power.doubleValue();
      if (at >= below && at <= above) {
        ticks.add(new Tick(at, label(power, power, at)));
      }
    }
    return new Axis(below, above, true, List.copyOf(ticks));
  }

  /** Where a value lies between both ends, from 0 to 1. */
  double fraction(double value) {
    if (log) {
      double from = StrictMath.log10(low);
      return (StrictMath.log10(value) - from) / (StrictMath.log10(high) - from);
    }
    return (value / 2 - low / 2) / (high / 2 - low / 2);
  }

  /** As many decimals as the distance of the ticks needs, or a power of ten. */
  private static String label(BigDecimal value, BigDecimal step, double largest) {
    if (value.signum() == 0) {
      return "0";
    }
    if (largest >= PLAIN_FROM && largest < PLAIN_BELOW) {
      int decimals = Math.max(0, step.stripTrailingZeros().scale());
      return value.setScale(decimals, RoundingMode.HALF_EVEN).toPlainString();
    }
    BigDecimal digits = value.stripTrailingZeros();
    int exponent = digits.precision() - digits.scale() - 1;
    return digits.scaleByPowerOfTen(-exponent).stripTrailingZeros().toPlainString()
        + "e"
        + exponent;
  }
}
