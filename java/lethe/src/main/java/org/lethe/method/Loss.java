package org.lethe.method;

import java.util.List;
import java.util.Map;

/**
 * One term of an unlearning objective, a pure function of row statistics:
 *
 * <pre>  loss = scale · (Σ terms) / count</pre>
 *
 * where the terms are values per row or per sequence and the count is that of the whole step. Scale
 * and count are the loss's reduction; losses of the literature differ in it, and none is to be
 * unified with another. To add a loss, implement this in one file, describe it there in a {@link
 * LossSpec}, and name that in {@link Methods}.
 */
public interface Loss {
  /** β where nothing else is asked for, as in the papers that the losses come from. */
  double DEFAULT_BETA = 0.1;

  /** The name that its value goes by in reports; each loss of a method has its own. */
  String name();

  /** What the loss looks at. */
  List<Use> uses();

  /** The factor before the mean, with the sign. */
  double scale();

  /**
   * The number of terms of the whole step.
   *
   * @throws org.lethe.InternalFaultException when the step lacks a role that the loss needs
   */
  long count(Totals totals);

  /**
   * Hands over the terms of the sequences of its uses, and each term's derivative with respect to
   * the scalars of its rows (see {@link RowKind}).
   */
  void evaluate(Observed seen, Accumulator out);

  /**
   * How many sums over the whole step {@link #evaluate} needs before it can give its first term; 0
   * for most. Others cost a second forward pass where a step has several micro-batches.
   */
  default int measures() {
    return 0;
  }

  /** Adds a micro-batch to those sums. */
  default void measure(Observed seen, Measured out) {}

  /** The numbers that outlive a step, by name, as they are before the first; empty for most. */
  default Map<String, Double> initialState() {
    return Map.of();
  }

  /** Its weight in the objective besides the configured one, which a state may change. */
  default double weight(Map<String, Double> state) {
    return 1;
  }

  /**
   * The state after an update.
   *
   * @param value the loss's own value of the step, before its weights
   */
  default Map<String, Double> nextState(Map<String, Double> state, double value, StepPlace place) {
    return state;
  }
}
