package org.lethe.method;

import java.util.List;
import org.lethe.InternalFaultException;

/**
 * How many sequences and rows of each role a whole step has. These are the denominators of every
 * loss, so that cutting the step into micro-batches changes no coefficient. Immutable.
 */
public final class Totals {
  private final long[] sequences = new long[Role.values().length];
  private final long[] rows = new long[Role.values().length];

  private Totals() {}

  /** The totals of a step made of these sequences. */
  public static Totals of(List<Sequence> step) {
    Totals totals = new Totals();
    for (Sequence sequence : step) {
      totals.sequences[sequence.role().ordinal()]++;
      totals.rows[sequence.role().ordinal()] += sequence.rows();
    }
    return totals;
  }

  /**
   * @throws InternalFaultException when the step has none: a loss that needs the role cannot be
   *     averaged
   */
  public long sequences(Role role) {
    return positive(sequences[role.ordinal()], "sequence", role);
  }

  /**
   * @throws InternalFaultException when the step has none: a loss that needs the role cannot be
   *     averaged
   */
  public long rows(Role role) {
    return positive(rows[role.ordinal()], "row", role);
  }

  /**
   * The number of pairs (a, b): both roles must have the same number of sequences.
   *
   * @throws InternalFaultException when they have not, or have none
   */
  public long pairs(Role a, Role b) {
    if (sequences(a) != sequences(b)) {
      throw new InternalFaultException(
          "A step has " + sequences(a) + " sequences " + a + " but " + sequences(b) + " " + b);
    }
    return sequences(a);
  }

  private static long positive(long count, String what, Role role) {
    if (count == 0) {
      throw new InternalFaultException(
          "A step has no " + what + " of role " + role + ", which its method needs");
    }
    return count;
  }
}
