package org.lethe.bench.jmh;

import java.util.List;
import java.util.function.Function;
import java.util.function.ToDoubleBiFunction;
import org.lethe.method.Role;

/**
 * The losses as the papers write them, with their default options (β 0.1; ME weighs 0.1), over
 * whole steps: an independent witness of what the methods compute.
 */
final class PlainLoss {
  private static final double BETA = 0.1;

  private PlainLoss() {}

  /**
   * What the losses need of a sequence's rows.
   *
   * @param nll of each row
   * @param uniformKl KL(U‖p) of each row
   * @param kl KL(p_ref‖p) of each row
   * @param referenceNll of the reference model, summed over the rows
   */
  record Facts(
      Role role, int pair, double[] nll, double[] uniformKl, double[] kl, double referenceNll) {
    double sum() {
      double sum = 0;
      for (double value : nll) {
        sum += value;
      }
      return sum;
    }
  }

  /** The objective of a method by name, such as "NPO+KL". */
  static double of(String method, List<Facts> step) {
    String[] names = method.split("\\+", -1);
    double forget =
        switch (names[0]) {
          case "GA" -> -rowMean(step, Role.FORGET, Facts::nll);
          case "IDK" -> rowMean(step, Role.FORGET_IDK, Facts::nll);
          case "ME" -> 0.1 * rowMean(step, Role.FORGET, Facts::uniformKl);
          case "NPO" -> 2 * logistic(step, Role.FORGET, Role.FORGET, (a, b) -> margin(a));
          case "DPO" ->
              2 * logistic(step, Role.FORGET, Role.FORGET_IDK, (a, b) -> margin(a) - margin(b));
          default -> throw new IllegalArgumentException(method);
        };
    if (names.length == 1) {
      return forget;
    }
    return forget
        + switch (names[1]) {
          case "GD" -> rowMean(step, Role.RETAIN, Facts::nll);
          case "KL" -> rowMean(step, Role.RETAIN, Facts::kl);
          case "AP" -> logistic(step, Role.RETAIN, Role.RETAIN_IDK, (a, b) -> b.sum() - a.sum());
          default -> throw new IllegalArgumentException(method);
        };
  }

  private static double margin(Facts facts) {
    return facts.sum() - facts.referenceNll();
  }

  private static double rowMean(List<Facts> step, Role role, Function<Facts, double[]> values) {
    double sum = 0;
    long rows = 0;
    for (Facts facts : step) {
      if (facts.role() == role) {
        for (double value : values.apply(facts)) {
          sum += value;
          rows++;
        }
      }
    }
    return sum / rows;
  }

  /** −(1/β)·mean log σ(β·margin) over the pairs of two roles. */
  private static double logistic(
      List<Facts> step, Role first, Role second, ToDoubleBiFunction<Facts, Facts> margin) {
    double sum = 0;
    int pairs = 0;
    for (Facts a : step) {
      for (Facts b : step) {
        if (a.role() == first && b.role() == second && a.pair() == b.pair()) {
          sum += StrictMath.log1p(StrictMath.exp(-BETA * margin.applyAsDouble(a, b)));
          pairs++;
        }
      }
    }
    return sum / pairs / BETA;
  }
}
