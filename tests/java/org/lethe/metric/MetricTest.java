package org.lethe.metric;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;

import java.util.List;
import org.junit.jupiter.api.Test;
import org.lethe.UserException;

class MetricTest {
  /** A few roundings of values near 1. */
  private static final double ROUNDING = 1e-15;

  @Test
  void probability() {
    assertEquals(1.0, Probability.of(0));
    assertEquals(0.25, Probability.of(StrictMath.log(4)), ROUNDING);
    assertEquals(0.0, Probability.of(Double.POSITIVE_INFINITY));
    assertEquals(0.25, Probability.normalised(2, List.of(2.0, 2.0, 2.0)));
    assertEquals(1.0 / 3, Probability.normalised(2000, List.of(2000.0, 2000.0)), ROUNDING);
    assertEquals(1.0, Probability.normalised(2, List.of()));
    assertEquals(0.5, Probability.normalisedOpenUnlearning(0.2, List.of(0.1, 0.1)), 1e-9);
    assertEquals(0.0, Probability.normalisedOpenUnlearning(0, List.of(0.0)));
  }

  @Test
  void truthRatioOfAnExample() {
    // Right 1/2, wrong by the geometric mean of 1/4 and 1/16: 1/8.
    List<Double> wrong = List.of(StrictMath.log(4), StrictMath.log(16));
    assertEquals(0.25, TruthRatio.of(StrictMath.log(2), wrong), ROUNDING);
    assertEquals(0.25, TruthRatio.openUnlearning(StrictMath.log(2), wrong), 1e-9);
    assertEquals(1.0, TruthRatio.of(2000, List.of(2000.0)));
    assertThrows(UserException.class, () -> TruthRatio.of(1, List.of()));
  }

  @Test
  void truthRatioOfASet() {
    double[] ratios = {0.25, 2, 1};
    assertEquals((0.25 + 0.5 + 1) / 3, TruthRatio.forgetOpenUnlearning(ratios), 1e-9);
    assertEquals(1 - (0.25 + 0.5 + 1) / 3, TruthRatio.forgetCloserLook(ratios), ROUNDING);
    assertEquals(0.25, TruthRatio.utility(ratios));
    assertEquals(1.0, TruthRatio.forgetCloserLook(new double[] {0, Double.POSITIVE_INFINITY}));
    assertEquals(Double.NaN, TruthRatio.utility(new double[] {0.5, Double.NaN}));
    assertThrows(UserException.class, () -> TruthRatio.utility(new double[0]));
  }

  @Test
  void kolmogorovSmirnov() {
    // Wholly apart: both orders of all 2·3 values, 2 of C(6,3) = 20.
    assertEquals(
        0.1, KolmogorovSmirnov.pValue(new double[] {1, 2, 3}, new double[] {4, 5, 6}), ROUNDING);
    assertEquals(
        1.0, ForgetQuality.of(new double[] {1, 2, 3, 4}, new double[] {1, 2, 3, 4}), ROUNDING);
    assertThrows(UserException.class, () -> KolmogorovSmirnov.pValue(new double[1], new double[9]));
    assertThrows(
        UserException.class,
        () -> KolmogorovSmirnov.pValue(new double[9], new double[] {1, Double.NaN}));
  }

  @Test
  void modelUtility() {
    assertEquals(0.5, ModelUtility.of(0.5, 0.5, 0.5));
    assertEquals(3 / (1 / 0.2 + 1 / 0.5 + 1), ModelUtility.of(0.2, 0.5, 1), ROUNDING);
    assertEquals(0.0, ModelUtility.of(0.9, 0, 0.9));
    assertEquals(0.0, ModelUtility.of(0.9, -0.0));
    assertEquals(Double.NaN, ModelUtility.of(0.9, Double.NaN, 0));
    assertEquals(Double.NaN, ModelUtility.of(0.9, -0.5));
    assertThrows(UserException.class, ModelUtility::of);
  }

  @Test
  void tokenEntropy() {
    assertEquals(0.0, TokenEntropy.of(new int[0]));
    assertEquals(0.0, TokenEntropy.of(new int[] {5}));
    assertEquals(0.0, TokenEntropy.of(new int[] {5, 5, 5}));
    assertEquals(1.0, TokenEntropy.of(new int[] {5, 2, 9, 1, 7}));
    assertEquals(0.5, TokenEntropy.of(new int[] {1, 1, 2, 2}), ROUNDING);
    assertEquals(1.5 / 2, TokenEntropy.of(new int[] {8, 3, 3, 7}), ROUNDING);
  }

  @Test
  void refusalRate() {
    assertEquals(
        0.5, RefusalRate.of(List.of("I cannot say.", "Rome"), text -> text.startsWith("I ")));
    assertThrows(UserException.class, () -> RefusalRate.of(List.of(), text -> true));
  }

  @Test
  void eachMetricReadsItsPartOfAnObservation() {
    Observation told =
        new Observation(
            0, StrictMath.log(2), List.of(StrictMath.log(4)), "a b", "a c", List.of(1, 1));
    Observation refused =
        new Observation(
            StrictMath.log(2), 0, List.of(StrictMath.log(4)), "a b", "no", List.of(1, 2));
    List<Observation> set = List.of(told, refused);
    List<Double> expected =
        List.of(0.75, (1 / 1.25 + 1 / 1.5) / 2, 0.25, 0.25, 0.625, 0.375, 0.5, 0.5);
    List<Metric> metrics = Metric.list("no"::equals);
    assertEquals(
        List.of(
            "probability",
            "probability_normalised",
            "rouge_l_recall",
            "rouge_l_f1",
            "truth_ratio",
            "truth_ratio_forget",
            "token_entropy",
            "refusal_rate"),
        metrics.stream().map(Metric::name).toList());
    for (int i = 0; i < metrics.size(); i++) {
      assertEquals(expected.get(i), metrics.get(i).of(set), 1e-9, metrics.get(i).name());
    }
    assertThrows(UserException.class, () -> metrics.get(0).of(List.of()));
  }
}
