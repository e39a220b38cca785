package org.lethe.metric;

import java.util.List;
import org.lethe.UserException;
import org.lethe.method.ExactSum;

/** Averages over examples, without rounding on the way. */
final class Means {
  private Means() {}

  /**
   * The arithmetic mean.
   *
   * @throws UserException when there is nothing to average
   */
  static double of(double[] values) {
    requireSome(values.length);
    ExactSum sum = new ExactSum();
    for (double value : values) {
      sum.add(value);
    }
    return sum.mean(values.length);
  }

  /**
   * The arithmetic mean.
   *
   * @throws UserException when there is nothing to average
   */
  static double of(List<Double> values) {
    return of(values.stream().mapToDouble(Double::doubleValue).toArray());
  }

  static void requireSome(int count) {
    if (count == 0) {
      throw new UserException("There is no example to average over; give a set that is not empty");
    }
  }
}
