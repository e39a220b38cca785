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
    assertEquals((7 * 4 - 1) * 8, seed);
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
    double beta = config.forgetBeta().orElseThrow();
    double forget =
        switch (config.forget()) {
          case "GA" -> -tokenMean(step, Role.FORGET);
          case "IDK" -> tokenMean(step, Role.FORGET_IDK);
          case "NPO" -> npo(step, beta);
          case "DPO" -> dpo(step, beta);
          case "ME" -> maximumEntropy(step, config.direction());
          default -> 0;
        };
    double retain =
        switch (config.retain()) {
          case "GD" -> tokenMean(step, Role.RETAIN);
          case "KL" -> klRetain(step);
          case "AP" -> answerPreservation(step, config.retainBeta().orElseThrow());
          default -> 0;
        };
    return config.forgetCoefficient().orElseThrow() * forget
        + config.retainCoefficient().orElseThrow() * retain;
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
    for (Sequence sequence : Reductions.of(role, step.sequences())) {
      sum -= logProbability(step, sequence);
      rows += sequence.rows();
    }
    return sum / rows;
  }

  private static double npo(Step step, double beta) {
    double sum = 0;
    List<Sequence> forget = Reductions.of(Role.FORGET, step.sequences());
    for (Sequence s : forget) {
      sum += logSigmoid(-beta * (logProbability(step, s) + s.referenceNll()));
    }
    return -2 / beta * sum / forget.size();
  }

  private static double dpo(Step step, double beta) {
    double sum = 0;
    List<Sequence> lost = Reductions.of(Role.FORGET, step.sequences());
    List<Sequence> won = Reductions.of(Role.FORGET_IDK, step.sequences());
    for (int i = 0; i < lost.size(); i++) {
      double policy = logProbability(step, won.get(i)) - logProbability(step, lost.get(i));
      double reference = lost.get(i).referenceNll() - won.get(i).referenceNll();
      sum += logSigmoid(beta * (policy - reference));
    }
    return -2 / beta * sum / lost.size();
  }

  private static double answerPreservation(Step step, double beta) {
    double sum = 0;
    List<Sequence> own = Reductions.of(Role.RETAIN, step.sequences());
    List<Sequence> refusal = Reductions.of(Role.RETAIN_IDK, step.sequences());
    for (int i = 0; i < own.size(); i++) {
      sum +=
          logSigmoid(
              -beta * (logProbability(step, refusal.get(i)) - logProbability(step, own.get(i))));
    }
    return -1 / beta * sum / own.size();
  }

  private static double maximumEntropy(Step step, EntropyDirection direction) {
    double sum = 0;
    int rows = 0;
    double u = 1.0 / VOCABULARY;
    for (Sequence s : Reductions.of(Role.FORGET, step.sequences())) {
      for (int row = s.firstRow(); row < s.firstRow() + s.rows(); row++) {
        double[] z = step.logits().get(row);
        double lse = Steps.lse(z);
        for (double logit : z) {
          double p = StrictMath.exp(logit - lse);
          sum +=
              direction == EntropyDirection.UNIFORM_TO_MODEL
                  ? u * StrictMath.log(u / p)
                  : p * StrictMath.log(p / u);
        }
        rows++;
      }
    }
    return sum / rows;
  }

  private static double klRetain(Step step) {
    double sum = 0;
    int rows = 0;
    for (Sequence s : Reductions.of(Role.RETAIN, step.sequences())) {
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
