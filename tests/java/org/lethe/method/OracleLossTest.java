package org.lethe.method;

import static org.junit.jupiter.api.Assertions.assertEquals;

import java.util.ArrayList;
import java.util.List;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;

/**
 * Losses against PyTorch, float64, on sequences of a small random model with a random adapter: what
 * {@code tests/oracle/make_lora.py} computes.
 */
class OracleLossTest {
  private static final double ROUNDING = 1e-12;

  private record Known(Role role, int pair, int rows, double nll, double referenceNll) {}

  private static final List<Known> SEQUENCES =
      List.of(
          new Known(Role.FORGET, 0, 9, 43.25281685842593, 40.65545690567771),
          new Known(Role.FORGET_IDK, 0, 3, 18.51371022127099, 18.17408503599458),
          new Known(Role.FORGET, 1, 5, 31.025999554344438, 36.60772912699504),
          new Known(Role.FORGET_IDK, 1, 6, 34.78499942747851, 29.679053387515747),
          new Known(Role.FORGET, 2, 1, 4.663651623583575, 5.811785402153917),
          new Known(Role.FORGET_IDK, 2, 4, 23.031796047183764, 24.35581519471942),
          new Known(Role.RETAIN, 0, 7, 48.77116390656632, 48.21710930529174),
          new Known(Role.RETAIN_IDK, 0, 5, 28.369711605401676, 31.91782046376803),
          new Known(Role.RETAIN, 1, 12, 83.06070295865304, 73.4053832673665),
          new Known(Role.RETAIN_IDK, 1, 2, 13.332158813864709, 14.12720247321559),
          new Known(Role.RETAIN, 2, 3, 19.71969565124691, 17.5975698459376),
          new Known(Role.RETAIN_IDK, 2, 7, 38.790178174682474, 49.421282795608015));

  @ParameterizedTest
  @CsvSource({
    "GA, 0.1, -5.262831202423596",
    "NPO, 0.1, 15.563814332635939",
    "NPO, 0.5, 5.483381391068751",
    "DPO, 0.1, 17.566699854197694",
    "DPO, 0.5, 8.371933170965432",
    "IDK, 0.1, 5.871577361225636",
    "none+GD, 0.1, 6.888707387112103",
    "none+AP, 0.1, 30.915450126583846",
    "none+AP, 0.5, 30.04340508194001",
    "IDK+AP, 0.1, 36.78702748780948",
  })
  void isPyTorchs(String name, double beta, double expected) {
    List<Sequence> sequences = new ArrayList<>();
    List<Double> nlls = new ArrayList<>();
    for (Known known : SEQUENCES) {
      sequences.add(
          new Sequence(
              known.role(), known.pair(), nlls.size(), known.rows(), known.referenceNll()));
      for (int i = 0; i < known.rows(); i++) {
        nlls.add(known.nll() / known.rows());
      }
    }
    double[] values = new double[nlls.size() * RowStatistics.COLUMNS];
    for (int row = 0; row < nlls.size(); row++) {
      values[row * RowStatistics.COLUMNS + RowStatistics.LSE_OTHERS] =
          StrictMath.log(StrictMath.expm1(nlls.get(row)));
    }
    MethodStep step =
        Methods.create(MethodConfig.of(name).withBeta(beta)).begin(Totals.of(sequences));
    step.add(new RowStatistics(values, 96), sequences);
    assertEquals(expected, step.loss(), ROUNDING * Math.abs(expected));
  }
}
