package org.lethe.method;

import org.lethe.InternalFaultException;

/**
 * A sequence of a step as one {@link Use} sees it, and where its rows lie.
 *
 * @param use what its rows are for; null: for whatever looks at the role, in a step whose roles
 *     have one use each
 * @param pair index within the whole step of the example it comes from, the same for its twins that
 *     carry another answer; unique within a use
 * @param firstRow its first row in the {@link RowStatistics} of its micro-batch
 * @param rows how many rows follow; 0 is allowed
 * @param referenceNll {@link RowStatistics#nll(Sequence)} of the reference model on the same rows;
 *     NaN where no loss asks for it
 */
public record Sequence(Role role, Use use, int pair, int firstRow, int rows, double referenceNll) {
  public Sequence {
    if (firstRow < 0 || rows < 0) {
      throw new InternalFaultException(
          "A sequence with first row " + firstRow + " and " + rows + " rows");
    }
  }

  /** One for whatever looks at the role. */
  public Sequence(Role role, int pair, int firstRow, int rows, double referenceNll) {
    this(role, null, pair, firstRow, rows, referenceNll);
  }

  /** One for a use. */
  public Sequence(Use use, int pair, int firstRow, int rows, double referenceNll) {
    this(use.role(), use, pair, firstRow, rows, referenceNll);
  }

  /** Whether its rows are for that use. */
  public boolean serves(Use wanted) {
    return use == null ? role == wanted.role() : use.equals(wanted);
  }
}
