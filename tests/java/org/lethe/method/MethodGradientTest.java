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
  private static final double TRIVIAL = 1e-3;

  @Test
  void lossAndGradientAreThoseOfTheFormula() {
    long seed = 0;
    for (MethodConfig config : Steps.everyMethod()) {
      Method method = Methods.create(config);
      Step step = Steps.random(method, VOCABULARY, seed++);
      MethodStep run = method.begin(Totals.of(step.sequences()));
      double[] coefficients = run.add(step.statistics(), step.sequences());
      double expected = formula(config, step);
      assertEquals(expected, run.loss(), ROUNDING * Math.abs(expected), config.toString());
      Map<Role, Double> largest = new EnumMap<>(Role.class);
      for (Sequence sequence : step.sequences()) {
        for (int row = sequence.firstRow(); row < sequence.firstRow() + sequence.rows(); row++) {
          double[] direction = Steps.direction(step, row);
          for (int v = 0; v < VOCABULARY; v++) {
            double gradient = coefficients[row] * direction[v];
            assertEquals(
                difference(config, step, row, v),
                gradient,
                DIFFERENCE * Math.max(1, Math.abs(expected)),
                config + " " + sequence + " row " + row);
            largest.merge(sequence.role(), Math.abs(gradient), Math::max);
          }
        }
      }
      assertEquals(method.uses().size(), largest.size());
      assertTrue(largest.values().stream().allMatch(g -> g > TRIVIAL), config + " has " + largest);
    }
    assertTrue(seed > 100);
  }

  private static double difference(MethodConfig config, Step step, int row, int v) {
    double[] z = step.logits().get(row);
    double at = z[v];
    double[] values = new double[4];
    double[] offsets = {-2, -1, 1, 2};
    for (int i = 0; i < values.length; i++) {
      z[v] = at + offsets[i] * STEP;
      values[i] = formula(config, step);
    }
    z[v] = at;
    return (8 * (values[2] - values[1]) - (values[3] - values[0])) / (12 * STEP);
  }

  /** The objective as the literature writes it. */
  private static double formula(MethodConfig config, Step step) {
    double forget =
        switch (config.forget()) {
          case "GA" -> -reduced(step, Role.FORGET, choice(config.forgetOptions(), "reduction"));
          case "IDK" -> tokenMean(step, Role.FORGET_IDK);
          case "NPO" -> npo(step, number(config.forgetOptions(), "beta"));
          case "DPO" -> dpo(step, number(config.forgetOptions(), "beta"));
          case "ME" ->
              maximumEntropy(
                  step, choice(config.forgetOptions(), "direction").equals("uniform_to_model"));
          case "none" -> 0;
          default -> throw new AssertionError("no formula of " + config.forget());
        };
    double retain =
        switch (config.retain()) {
          case "GD" -> reduced(step, Role.RETAIN, choice(config.retainOptions(), "reduction"));
          case "KL" -> klRetain(step);
          case "AP" -> answerPreservation(step, number(config.retainOptions(), "beta"));
          case "none" -> 0;
          default -> throw new AssertionError("no formula of " + config.retain());
        };
    return config.forgetCoefficient().orElseThrow() * forget
        + config.retainCoefficient().orElseThrow() * retain;
  }

  private static double number(Map<String, Setting> options, String name) {
    return Double.parseDouble(options.get(name).text());
  }

  private static String choice(Map<String, Setting> options, String name) {
    return options.get(name).text();
  }

  private static List<Sequence> of(Role role, Step step) {
    return step.sequences().stream().filter(s -> s.role() == role).toList();
  }

  private static double reduced(Step step, Role role, String reduction) {
    if (reduction.equals("token_mean")) {
      return tokenMean(step, role);
    }
    double sum = 0;
    for (Sequence s : of(role, step)) {
      sum -= logProbability(step, s) / (reduction.equals("sequence_mean") ? s.rows() : 1);
    }
    return sum / of(role, step).size();
  }

  private static double logProbability(Step step, Sequence sequence) {
    double sum = 0;
    for (int row = sequence.firstRow(); row < sequence.firstRow() + sequence.rows(); row++) {
      double[] z = step.logits().get(row);
      sum += z[step.labels().get(row)] - Steps.lse(z);
    }
    return sum;
  }

  private static double logSigmoid(double x) {
    return -StrictMath.log(1 + StrictMath.exp(-x));
  }

  private static double tokenMean(Step step, Role role) {
    double sum = 0;
    int rows = 0;
    for (Sequence sequence : of(role, step)) {
      sum -= logProbability(step, sequence);
      rows += sequence.rows();
    }
    return sum / rows;
  }

  private static double npo(Step step, double beta) {
    double sum = 0;
    List<Sequence> forget = of(Role.FORGET, step);
    for (Sequence s : forget) {
      sum += logSigmoid(-beta * (logProbability(step, s) + s.referenceNll()));
    }
    return -2 / beta * sum / forget.size();
  }

  private static double dpo(Step step, double beta) {
    double sum = 0;
    List<Sequence> lost = of(Role.FORGET, step);
    List<Sequence> won = of(Role.FORGET_IDK, step);
    for (int i = 0; i < lost.size(); i++) {
      double policy = logProbability(step, won.get(i)) - logProbability(step, lost.get(i));
      double reference = lost.get(i).referenceNll() - won.get(i).referenceNll();
      sum += logSigmoid(beta * (policy - reference));
    }
    return -2 / beta * sum / lost.size();
  }

  private static double answerPreservation(Step step, double beta) {
    double sum = 0;
    List<Sequence> own = of(Role.RETAIN, step);
    List<Sequence> refusal = of(Role.RETAIN_IDK, step);
    for (int i = 0; i < own.size(); i++) {
      sum +=
          logSigmoid(
              -beta * (logProbability(step, refusal.get(i)) - logProbability(step, own.get(i))));
    }
    return -1 / beta * sum / own.size();
  }

  private static double maximumEntropy(Step step, boolean uniformToModel) {
    double sum = 0;
    int rows = 0;
    double u = 1.0 / VOCABULARY;
    for (Sequence s : of(Role.FORGET, step)) {
      for (int row = s.firstRow(); row < s.firstRow() + s.rows(); row++) {
        double[] z = step.logits().get(row);
        double lse = Steps.lse(z);
        for (double logit : z) {
          double p = StrictMath.exp(logit - lse);
          sum += uniformToModel ? u * StrictMath.log(u / p) : p * StrictMath.log(p / u);
        }
        rows++;
      }
    }
    return sum / rows;
  }

  private static double klRetain(Step step) {
    double sum = 0;
    int rows = 0;
    for (Sequence s : of(Role.RETAIN, step)) {
      for (int row = s.firstRow(); row < s.firstRow() + s.rows(); row++) {
        double[] z = step.logits().get(row);
        double[] w = step.reference().get(row);
        double lseZ = Steps.lse(z);
        double lseW = Steps.lse(w);
        for (int v = 0; v < z.length; v++) {
          double logQ = w[v] - lseW;
          sum += StrictMath.exp(logQ) * (logQ - (z[v] - lseZ));
        }
        rows++;
      }
    }
    return sum / rows;
  }
}
