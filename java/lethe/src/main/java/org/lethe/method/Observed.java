package org.lethe.method;

import java.util.ArrayList;
import java.util.List;
import java.util.Map;

/**
 * What a loss is told of a micro-batch.
 *
 * @param sequences of every role; sequences of one pair come together
 * @param totals of the whole step
 * @param state the loss's numbers that outlive a step
 * @param measured the whole step's sums that the loss asked for; NaN while they are being taken
 */
// Handed from one loss to the next; a copy for each reader would cost more than it guards.
@SuppressWarnings("ArrayRecordComponent")
public record Observed(
    RowStatistics rows,
    List<Sequence> sequences,
    Totals totals,
    Map<String, Double> state,
    double[] measured) {

  /** The sequences of a use, in order. */
  public List<Sequence> of(Use use) {
    List<Sequence> found = new ArrayList<>();
    for (Sequence sequence : sequences) {
      if (sequence.serves(use)) {
        found.add(sequence);
      }
    }
    return found;
  }
}
