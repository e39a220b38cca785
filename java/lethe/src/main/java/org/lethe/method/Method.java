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

  /** The names of the losses, forget first. */
  public List<String> lossNames() {
    List<String> names = new ArrayList<>();
    forget.ifPresent(loss -> names.add(loss.name()));
    retain.ifPresent(loss -> names.add(loss.name()));
    return List.copyOf(names);
  }

  /** What the method looks at, one per role. */
  public List<Use> uses() {
    List<Use> uses = new ArrayList<>();
    forget.ifPresent(loss -> uses.addAll(loss.uses()));
    retain.ifPresent(loss -> uses.addAll(loss.uses()));
    return List.copyOf(uses);
  }

  /**
   * The part of this objective that a step on one side of the pairs has.
   *
   * @throws InternalFaultException when nothing is left
   */
  public Method on(boolean forgets, boolean retains) {
    Optional<Loss> forgetPart = forgets ? forget : Optional.empty();
    Optional<Loss> retainPart = retains ? retain : Optional.empty();
    if (forgetPart.isEmpty() && retainPart.isEmpty()) {
      throw new InternalFaultException("a step has no sequence that " + name() + " looks at");
    }
    return new Method(forgetPart, retainPart, forgetCoefficient, retainCoefficient);
  }

  /**
   * Begins a step, which may come in several micro-batches.
   *
   * @param totals of the whole step
   * @throws InternalFaultException when the step lacks a role that a loss needs
   */
  public MethodStep begin(Totals totals) {
    return new MethodStep(this, totals, totals);
  }

  /**
   * Begins one process's share of a step: denominators are the whole step's, and the values are
   * this share's, which add up to the step's.
   *
   * @param share totals of what will be given
   */
  public MethodStep begin(Totals totals, Totals share) {
    return new MethodStep(this, totals, share);
  }
}
