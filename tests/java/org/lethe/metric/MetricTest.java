package org.lethe.metric;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;

import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
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
  void probabilityOfSeveralAnswersIsTheirMean() {
    assertEquals(
        0.375,
        Probability.ofSeveral(Averaging.EXACT, List.of(StrictMath.log(2), StrictMath.log(4))),
        ROUNDING);
    assertThrows(UserException.class, () -> Probability.ofSeveral(Averaging.EXACT, List.of()));
  }

  @Test
  void truthRatioOfAnExample() {
    // Right 1/2, wrong by the geometric mean of 1/4 and 1/16: 1/8.
    List<Double> wrong = List.of(StrictMath.log(4), StrictMath.log(16));
    List<Double> right = List.of(StrictMath.log(2));
    List<Double> unlikely = List.of(2000.0);
    assertEquals(0.25, TruthRatio.of(Definitions.LETHE, right, wrong), ROUNDING);
    assertEquals(0.8, TruthRatio.share(Definitions.LETHE, right, wrong), ROUNDING);
    double published = 0.125 / (0.5 + 1e-10);
    assertEquals(published, TruthRatio.of(Definitions.OPEN_UNLEARNING, right, wrong), ROUNDING);
    assertEquals(
        0.5 / (0.625 + 1e-10),
        TruthRatio.share(Definitions.OPEN_UNLEARNING, right, wrong),
        ROUNDING);
    assertEquals(1.0, TruthRatio.of(Definitions.LETHE, unlikely, unlikely));
    assertEquals(0.0, TruthRatio.of(Definitions.OPEN_UNLEARNING, unlikely, unlikely));
    // Several right answers count by the mean of their nll.
    assertEquals(
        0.25, TruthRatio.of(Definitions.LETHE, List.of(0.0, StrictMath.log(4)), wrong), ROUNDING);
    assertThrows(UserException.class, () -> TruthRatio.of(Definitions.LETHE, right, List.of()));
  }

  @Test
  void truthRatioOfASet() {
    double[] ratios = {0.25, 2, 1};
    double mean = (0.25 + 0.5 + 1) / 3;
    assertEquals(mean, Definitions.LETHE.forgetTruthRatio(ratios), ROUNDING);
    double floored = (0.25 + 1 / (2 + 1e-10) + 1 / (1 + 1e-10)) / 3;
    assertEquals(floored, Definitions.OPEN_UNLEARNING.forgetTruthRatio(ratios), ROUNDING);
    assertEquals(1 - mean, Definitions.CLOSER_LOOK.forgetTruthRatio(ratios), ROUNDING);
    assertEquals(0.25, TruthRatio.utility(Averaging.EXACT, ratios));
    double[] extremes = {0, Double.POSITIVE_INFINITY};
    assertEquals(1.0, Definitions.CLOSER_LOOK.forgetTruthRatio(extremes));
    assertEquals(Double.NaN, TruthRatio.utility(Averaging.EXACT, new double[] {0.5, Double.NaN}));
    assertThrows(UserException.class, () -> TruthRatio.utility(Averaging.EXACT, new double[0]));
  }

  @Test
  void forgetEfficacy() {
    assertEquals(0.7, ForgetEfficacy.of(Averaging.EXACT, 0.1, 0.2, 0.6), ROUNDING);
    assertThrows(UserException.class, () -> ForgetEfficacy.of(Averaging.NUMPY));
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

  /** An answer of two tokens and the end token. */
  private static AnswerTokens tokens(boolean... hits) {
    return new AnswerTokens(
        new double[] {-1, -2, -3}, hits, new double[] {-2, -2, -2}, new double[] {1, 4, 9}, true);
  }

  @Test
  void eachMetricReadsItsPartOfAnObservation() {
    Observation told =
        new Observation(
            0,
            List.of(StrictMath.log(2)),
            List.of(StrictMath.log(4)),
            tokens(false, true, false),
            "a b",
            "c a",
            List.of(1, 1),
            new Extraction(0.25, Double.NaN, 1, Double.NaN));
    Observation refused =
        new Observation(
            StrictMath.log(2),
            List.of(0.0),
            List.of(StrictMath.log(4)),
            tokens(true, false, true),
            "a b",
            "no",
            List.of(1, 2),
            new Extraction(0.75, 0.125, Double.NaN, Double.NaN));
    List<Observation> set = List.of(told, refused);
    Map<String, Double> expected = new LinkedHashMap<>();
    expected.put("probability", 0.75);
    expected.put("probability_normalised", (1 / 1.25 + 1 / 1.5) / 2);
    expected.put("rouge_1_recall", 0.25);
    expected.put("rouge_l_recall", 0.25);
    expected.put("rouge_l_f1", 0.25);
    expected.put("truth_ratio", 0.625);
    expected.put("truth_ratio_forget", 0.375);
    expected.put("truth_share", (1 / 1.5 + 1 / 1.25) / 2);
    expected.put("extraction_strength", 0.25);
    expected.put("exact_memorization", 0.5);
    expected.put("memorization_accuracy", 0.5);
    expected.put("extraction_likelihood", 0.125);
    expected.put("sensitive_memorization_accuracy", 1.0);
    expected.put("sensitive_extraction_likelihood", Double.NaN);
    expected.put("token_entropy", 0.5);
    expected.put("refusal_rate", 0.5);
    List<Metric> metrics = Metric.list(Definitions.LETHE, "no"::equals);
    assertEquals(List.copyOf(expected.keySet()), metrics.stream().map(Metric::name).toList());
    for (Metric metric : metrics) {
      assertEquals(expected.get(metric.name()), metric.of(set), ROUNDING, metric.name());
    }
    expected.put("extraction_strength", 0.5);
    for (Metric metric : Metric.list(Definitions.OPEN_UNLEARNING, "no"::equals)) {
      assertEquals(expected.get(metric.name()), metric.of(set), 1e-9, metric.name());
    }
    assertThrows(UserException.class, () -> metrics.get(0).of(List.of()));
  }
}
