package org.lethe.method;

/** Where a {@link Loss} puts its terms and their derivatives for one micro-batch. */
public final class Accumulator {
  private final ExactSum terms;
  private final double factor;
  private final double[] coefficients;

  /**
   * @param factor what turns the derivative of a term into that of the objective
   * @param coefficients [rows] of the micro-batch, added to
   */
  Accumulator(ExactSum terms, double factor, double[] coefficients) {
    this.terms = terms;
    this.factor = factor;
    this.coefficients = coefficients;
  }

  /** Adds a term. */
  public void term(double value) {
    terms.add(value);
  }

  /** Adds the derivative of a term with respect to the scalar of {@code row}. */
  public void slope(int row, double derivative) {
    coefficients[row] += factor * derivative;
  }

  /** Adds the same derivative for each row of a sequence. */
  public void slope(Sequence sequence, double derivative) {
    for (int i = 0; i < sequence.rows(); i++) {
      slope(sequence.firstRow() + i, derivative);
    }
  }
}
