package org.lethe.report;

import java.util.List;
import org.lethe.UserException;

/**
 * A curve: {@code y} over {@code x}. Values that are not finite leave a gap.
 *
 * @param name what the curve shows
 * @param x abscissae, such as step numbers, ascending
 * @param y ordinates, as many
 */
public record Series(String name, List<Double> x, List<Double> y) {
  /**
   * Copies both lists.
   *
   * @throws UserException if they differ in length
   */
  public Series {
    x = List.copyOf(x);
    y = List.copyOf(y);
    if (x.size() != y.size()) {
      throw new UserException(
          "series '"
              + name
              + "' has "
              + x.size()
              + " x and "
              + y.size()
              + " y values; give as many of both");
    }
  }
}
