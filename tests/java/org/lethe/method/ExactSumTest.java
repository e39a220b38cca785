package org.lethe.method;

import static org.junit.jupiter.api.Assertions.assertEquals;

import java.math.BigDecimal;
import java.util.Random;
import org.junit.jupiter.api.Test;

class ExactSumTest {
  private static ExactSum sum(double... terms) {
    ExactSum sum = new ExactSum();
    for (double term : terms) {
      sum.add(term);
    }
    return sum;
  }

  @Test
  void losesNothingToCancellation() {
    assertEquals(1.0, sum(1e100, 1, -1e100).value());
    assertEquals(2e-300, sum(1e300, 1e-300, -1e300, 1e-300).value());
    assertEquals(0.0, sum().value());
  }

  @Test
  void agreesWithArbitraryPrecision() {
    Random random = new Random(1);
    ExactSum sum = new ExactSum();
    BigDecimal exact = BigDecimal.ZERO;
    for (int i = 0; i < 1000; i++) {
      double term = random.nextGaussian() * StrictMath.pow(10, random.nextInt(41) - 20);
      sum.add(term);
      exact = exact.add(new BigDecimal(term));
      assertEquals(exact.doubleValue(), sum.value());
    }
    assertEquals(1000, sum.count());
  }

  @Test
  void meanOfEqualValuesIsThatValue() {
    Random random = new Random(2);
    for (int n = 1; n <= 64; n++) {
      for (int draw = 0; draw < 20; draw++) {
        double value = random.nextDouble() * StrictMath.pow(2, random.nextInt(60) - 30);
        ExactSum sum = new ExactSum();
        for (int i = 0; i < n; i++) {
          sum.add(value);
        }
        assertEquals(value, sum.mean(n));
      }
    }
  }

  @Test
  void whatIsNotFiniteStays() {
    assertEquals(Double.POSITIVE_INFINITY, sum(1, Double.POSITIVE_INFINITY, -5).value());
    assertEquals(Double.NEGATIVE_INFINITY, sum(Double.NEGATIVE_INFINITY).mean(3));
    assertEquals(Double.NaN, sum(Double.POSITIVE_INFINITY, Double.NEGATIVE_INFINITY, 1).value());
    assertEquals(Double.NaN, sum(1, Double.NaN, 1).mean(2));
    assertEquals(Double.POSITIVE_INFINITY, sum(Double.MAX_VALUE, Double.MAX_VALUE).value());
  }
}
