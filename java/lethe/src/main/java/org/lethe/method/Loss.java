package org.lethe.method;

import java.util.List;

/**
 * One term of an unlearning objective, a pure function of row statistics:
 *
 * <pre>  loss = scale · (Σ terms) / count</pre>
 *
 * where the terms are values per row or per sequence and the count is that of the whole step. Scale
 * and count are the loss's reduction; losses of the literature differ in it, and none is to be
 * unified with another. To add a loss, implement this in one file and name it in {@link Methods}.
 */
public interface Loss {
  /** β where nothing else is asked for, as in the papers that the losses come from. */
  double DEFAULT_BETA = 0.1;

  /** The short name of the literature, as used in configurations. */
  String name();

  /** What the loss looks at, one per role; no two losses of a method share a role. */
  List<Use> uses();

  /** Its weight in the objective where none is configured. */
  default double defaultCoefficient() {
    return 1;
  }

  /** The factor before the mean, with the sign. */
  double scale();

  /**
   * The number of terms of the whole step.
   *
   * @throws org.lethe.InternalFaultException when the step lacks a role that the loss needs
   */
  long count(Totals totals);

  /**
   * Hands over the terms of the sequences of its roles, and each term's derivative with respect to
   * the scalars of its rows (see {@link RowKind}).
   *
   * @param sequences those of one micro-batch, of every role; sequences of one pair come together
   */
  void evaluate(RowStatistics rows, List<Sequence> sequences, Accumulator out);
}
