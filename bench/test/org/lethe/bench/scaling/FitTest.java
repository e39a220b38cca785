package org.lethe.bench.scaling;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.util.ArrayList;
import java.util.List;
import java.util.function.DoubleUnaryOperator;
import org.junit.jupiter.api.Test;

class FitTest {
  private static final double EXACT = 1e-12;

  private static List<Point> points(DoubleUnaryOperator ms, DoubleUnaryOperator work) {
    List<Point> points = new ArrayList<>();
    for (double x = 64; x <= 65536; x *= 2) {
      points.add(Point.of(x, new double[] {ms.applyAsDouble(x)}, 1e9 * work.applyAsDouble(x), 0));
    }
    return points;
  }

  @Test
  void powersHaveTheirExponentInEveryDecade() {
    for (double exponent : new double[] {0.5, 1, 2}) {
      Fit fit = new Fit(points(x -> 3 * Math.pow(x, exponent), x -> x));
      // Three steps of powers of two come nearest to ten.
      assertEquals(4, fit.decades().size());
      fit.decades().forEach(d -> assertEquals(exponent, d.exponent(), EXACT));
      fit.local().forEach(e -> assertEquals(exponent, e, EXACT));
      assertEquals(1, fit.stretches().size());
      assertEquals(exponent == 1, fit.stretches().get(0).linear());
    }
  }

  @Test
  void aFixedCostAndASquareBoundTheLinearStretch() {
    // Fixed cost up to some 1000, quadratic from some 20000 on.
    Fit fit = new Fit(points(x -> 300 + x + x * x / 60000, x -> x + x * x / 60000));
    List<Fit.Stretch> stretches = fit.stretches();
    assertTrue(stretches.get(0).exponent() < Fit.LOW);
    assertTrue(stretches.get(0).words().contains("the rate rises"), stretches.get(0).words());
    Fit.Stretch last = stretches.get(stretches.size() - 1);
    assertTrue(last.exponent() > Fit.HIGH);
    assertTrue(last.words().contains("the work itself"), last.words());
    assertEquals(64, stretches.get(0).from());
    assertEquals(65536, last.to());
    for (int i = 1; i < stretches.size(); i++) {
      assertEquals(stretches.get(i - 1).to(), stretches.get(i).from());
    }
  }

  @Test
  void neighboursThatBehaveAlikeAreOneStretch() {
    // One disturbed point: its neighbours' exponents leave the range, the wholes around it do not.
    List<Point> points = points(x -> x == 1024 ? 1.25 * x : x, x -> x);
    List<Fit.Stretch> stretches = new Fit(points).stretches();
    for (int i = 1; i < stretches.size(); i++) {
      boolean both = stretches.get(i - 1).linear() && stretches.get(i).linear();
      assertFalse(both, stretches.toString());
    }
  }

  @Test
  void pointsThatWereNotRunAreLeftOutOfTheFit() {
    List<Point> points = points(x -> x, x -> x);
    points.add(Point.notRun(131072, 1, 1, "no memory"));
    Fit fit = new Fit(points);
    assertEquals(points.size() - 1, fit.local().size());
    assertTrue(fit.stretches().get(0).linear());
    assertFalse(new Fit(points.subList(0, 1)).stretches().stream().findAny().isPresent());
  }
}
