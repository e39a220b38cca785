package org.lethe.report;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;

import org.junit.jupiter.api.Test;
import org.lethe.UserException;

class ParetoTest {
  private static boolean[] front(double... pairs) {
    double[] x = new double[pairs.length / 2];
    double[] y = new double[pairs.length / 2];
    for (int i = 0; i < x.length; i++) {
      x[i] = pairs[2 * i];
      y[i] = pairs[2 * i + 1];
    }
    return Pareto.front(x, y);
  }

  @Test
  void whatAnotherBeatsIsNotOnIt() {
    assertArrayEquals(
        new boolean[] {true, true, true, false, false},
        front(0.1, 0.9, 0.5, 0.5, 0.9, 0.1, 0.4, 0.4, 0.09, 0.89));
  }

  @Test
  void oneThatIsAsGoodInOneAndWorseInTheOtherIsBeaten() {
    assertArrayEquals(new boolean[] {true, false, false}, front(0.5, 0.5, 0.5, 0.4, 0.4, 0.5));
  }

  @Test
  void equalOnesAreAllOnItOrAllNot() {
    assertArrayEquals(
        new boolean[] {true, true, false, false}, front(0.5, 0.5, 0.5, 0.5, 0.3, 0.3, 0.3, 0.3));
  }

  @Test
  void whatWasNotMeasuredIsNotOnItAndBeatsNothing() {
    double nan = Double.NaN;
    assertArrayEquals(
        new boolean[] {false, false, true, false}, front(nan, 9, 9, nan, 0.1, 0.1, nan, nan));
  }

  @Test
  void oneAloneIsOnItAndNoneIsNone() {
    assertArrayEquals(new boolean[] {true}, front(0, 0));
    assertArrayEquals(new boolean[0], front());
    assertThrows(UserException.class, () -> Pareto.front(new double[1], new double[2]));
  }

  @Test
  void infinityIsANumberHere() {
    assertArrayEquals(
        new boolean[] {true, false},
        front(Double.POSITIVE_INFINITY, 1, 5, Double.NEGATIVE_INFINITY));
  }
}
