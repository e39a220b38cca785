package org.lethe.method;

import java.util.ArrayList;
import java.util.List;
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
   * Begins a step, which may come in several micro-batches.
   *
   * @param totals of the whole step
   * @throws InternalFaultException when the step lacks a role that a loss needs
   */
  public MethodStep begin(Totals totals) {
    return new MethodStep(this, totals);
  }
}
