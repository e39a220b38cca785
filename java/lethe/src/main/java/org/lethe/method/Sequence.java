package org.lethe.method;

import org.lethe.InternalFaultException;

/**
 * A sequence of a step, and where its rows lie.
 *
 * @param pair index within the whole step of the example it comes from, the same for its twin that
 *     carries the refusal; unique within a role
 * @param firstRow its first row in the {@link RowStatistics} of its micro-batch
 * @param rows how many rows follow; 0 is allowed
 * @param referenceNll {@link RowStatistics#nll(Sequence)} of the reference model on the same rows;
 *     NaN where no loss asks for it
 */
public record Sequence(Role role, int pair, int firstRow, int rows, double referenceNll) {
  public Sequence {
    if (firstRow < 0 || rows < 0) {
      throw new InternalFaultException(
          "A sequence with first row " + firstRow + " and " + rows + " rows");
    }
  }
}
