package org.lethe.train;

import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.TreeMap;
import org.lethe.UserException;

/**
 * Quirks of published code that change what is computed, for comparisons of methods that should not
 * compare them. All are off in {@link #NONE}.
 *
 * @param microBatchRows the step's pairs are taken in groups of so many, each with denominators of
 *     its own, and the groups' losses averaged, as gradient accumulation does; 0: one group
 * @param padding what losses over whole rows see besides the rows' own tokens
 */
public record Parity(int microBatchRows, Padding padding) {
  /** No quirk. */
  public static final Parity NONE = new Parity(0, Padding.NONE);

  public Parity {
    if (microBatchRows < 0) {
      throw new UserException(
          "parity.micro_batch_rows is " + microBatchRows + "; give 0 or the rows of a micro-batch");
    }
  }

  /** The groups of a step's sequences whose losses are averaged; pairs stay together. */
  List<List<StepSequence>> groups(List<StepSequence> step) {
    if (microBatchRows == 0) {
      return List.of(step);
    }
    Map<Integer, List<StepSequence>> groups = new TreeMap<>();
    for (StepSequence s : step) {
      groups.computeIfAbsent(s.pair() / microBatchRows, g -> new ArrayList<>()).add(s);
    }
    return List.copyOf(groups.values());
  }
}
