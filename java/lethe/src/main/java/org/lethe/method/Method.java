package org.lethe.method;

import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import org.lethe.InternalFaultException;

/**
 * An unlearning objective: forgetCoefficient · forget + retainCoefficient · retain. A pure function
 * of the statistics of a step's rows; any thread may call it.
 *
 * @param forgetCoefficient finite, not negative; of no effect without a forget loss
 * @param retainCoefficient likewise for the retain loss
 */
public record Method(
    Optional<Loss> forget,
    Optional<Loss> retain,
    double forgetCoefficient,
    double retainCoefficient) {

  /**
   * A step's loss and what the trainer multiplies the head's unscaled gradients by.
   *
   * @param loss the objective; not finite as soon as one statistic that it looks at is not
   * @param parts each loss's own value by name, before its coefficient
   * @param coefficients by row; 0 for a row that no loss looks at
   */
  public record Result(double loss, Map<String, Double> parts, double[] coefficients) {}

  /** Such as "ME+GD"; "none" stands for a missing loss. */
  public String name() {
    return forget.map(Loss::name).orElse(Methods.NONE)
        + retain.map(loss -> "+" + loss.name()).orElse("");
  }

  /** What the method looks at, one per role. */
  public List<Use> uses() {
    List<Use> uses = new ArrayList<>();
    forget.ifPresent(loss -> uses.addAll(loss.uses()));
    retain.ifPresent(loss -> uses.addAll(loss.uses()));
    return List.copyOf(uses);
  }

  /**
   * Begins a step that may come in several micro-batches.
   *
   * @param totals of the whole step
   * @throws InternalFaultException when the step lacks a role that a loss needs
   */
  public MethodStep begin(Totals totals) {
    return new MethodStep(this, totals);
  }

  /** A step that comes whole. */
  public Result evaluate(RowStatistics rows, List<Sequence> sequences) {
    MethodStep step = begin(Totals.of(sequences));
    double[] coefficients = step.add(rows, sequences);
    return new Result(step.loss(), step.parts(), coefficients);
  }
}
