package org.lethe.bench.scaling;

import java.util.Arrays;

/**
 * What a point came to.
 *
 * @param x its place on the axis
 * @param ms of each call, ascending; empty when it was not run
 * @param gflop 10⁹ floating-point operations of a call
 * @param bytes that it takes on the device
 * @param why it was not run; empty when it was
 */
record Point(double x, double[] ms, double gflop, long bytes, String why) {
  static Point of(double x, double[] ms, double flops, long bytes) {
    double[] sorted = ms.clone();
    Arrays.sort(sorted);
    return new Point(x, sorted, flops / 1e9, bytes, "");
  }

  static Point notRun(double x, double flops, long bytes, String why) {
    return new Point(x, new double[0], flops / 1e9, bytes, why);
  }

  boolean ran() {
    return ms.length > 0;
  }

  double median() {
    int half = ms.length / 2;
    return ms.length % 2 == 1 ? ms[half] : (ms[half - 1] + ms[half]) / 2;
  }
}
