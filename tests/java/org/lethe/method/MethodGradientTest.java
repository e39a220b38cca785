package org.lethe.method;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.util.EnumMap;
import java.util.List;
import java.util.Map;
import org.junit.jupiter.api.Test;
import org.lethe.method.Steps.Step;

/**
 * Every method against its formula written out a second time, straight from the logits: the loss,
 * and its derivative with respect to every logit as coefficient · direction.
 */
class MethodGradientTest {
  /** Fourth-order differences: truncation h⁴ ~ 1e-12, rounding ε·|loss|/h ~ 1e-11. */
  private static final double STEP = 1e-3;

  private static final double DIFFERENCE = 1e-9;

  /** Some hundred operations in double precision. */
  private static final double ROUNDING = 1e-13;

  private static final int VOCABULARY = 5;

  /** A gradient of a whole role below this would make the comparison say nothing. */
  private static final double TRIVIAL = 1e-7;

  @Test
  void lossAndGradientAreThoseOfTheFormula() {
    long seed = 0;
    for (MethodConfig config : Steps.everyMethod()) {
      Method method = Methods.create(config);
      Step step = Steps.random(method, VOCABULARY, seed++);
      MethodStep run = Steps.measured(method, step, Totals.of(step.sequences()));
      double[] coefficients = run.add(step.statistics(), step.sequences());
      List<double[]> frozen = step.logits().stream().map(double[]::clone).toList();
      double expected = formula(config, step, frozen);
      assertEquals(expected, run.loss(), ROUNDING * Math.abs(expected), config.toString());
      Map<Role, Double> largest = new EnumMap<>(Role.class);
      for (Sequence sequence : step.sequences()) {
        for (int row = sequence.firstRow(); row < sequence.firstRow() + sequence.rows(); row++) {
          double[] direction = Steps.direction(step, row);
          for (int v = 0; v < VOCABULARY; v++) {
            double gradient = coefficients[row] * direction[v];
            assertEquals(
                difference(config, step, frozen, row, v),
                gradient,
                DIFFERENCE * Math.max(1, Math.abs(expected)),
                config + " " + sequence + " row " + row);
            largest.merge(sequence.role(), Math.abs(gradient), Math::max);
          }
        }
      }
      method.uses().stream()
          .filter(use -> use.kind() == RowKind.STATISTICS)
          .forEach(use -> assertEquals(0, largest.remove(use.role())));
      assertTrue(!largest.isEmpty());
      assertTrue(largest.values().stream().allMatch(g -> g > TRIVIAL), config + " has " + largest);
    }
    assertTrue(seed > 100);
  }

  private static double difference(
      MethodConfig config, Step step, List<double[]> frozen, int row, int v) {
    double[] z = step.logits().get(row);
    double at = z[v];
    double[] values = new double[4];
    double[] offsets = {-2, -1, 1, 2};
    for (int i = 0; i < values.length; i++) {
      z[v] = at + offsets[i] * STEP;
      values[i] = formula(config, step, frozen);
    }
    z[v] = at;
    return (8 * (values[2] - values[1]) - (values[3] - values[0])) / (12 * STEP);
  }

  /**
   * The objective as the literature writes it.
   *
   * @param frozen logits as what takes no part in the gradient sees them
   */
  private static double formula(MethodConfig config, Step step, List<double[]> frozen) {
    double forget =
        config.forget().equals(Methods.NONE)
            ? 0
            : Formulas.forget(config.forget(), config.forgetOptions(), step, frozen);
    double retain =
        switch (config.retain()) {
          case "GD" ->
              Formulas.reduced(
                  step, Role.RETAIN, Formulas.choice(config.retainOptions(), "reduction"));
          case "KL" -> Formulas.klRetain(step);
          case "AP" ->
              Formulas.answerPreservation(step, Formulas.number(config.retainOptions(), "beta"));
          case "none" -> 0;
          default -> throw new AssertionError("no formula of " + config.retain());
        };
    return config.forgetCoefficient().orElseThrow() * forget
        + config.retainCoefficient().orElseThrow() * retain;
  }
}
