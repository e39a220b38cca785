package org.lethe.method;

import java.util.EnumMap;
import java.util.List;
import java.util.Map;
import org.lethe.InternalFaultException;

/**
 * How many sequences and rows of each role a whole step has. These are the denominators of every
 * loss, so that cutting the step into micro-batches changes no coefficient. Immutable.
 */
public final class Totals {
  private final Map<Role, Long> sequences = new EnumMap<>(Role.class);
  private final Map<Role, Long> rows = new EnumMap<>(Role.class);

  private Totals() {}

  /** The totals of a step made of these sequences. */
  public static Totals of(List<Sequence> step) {
    Totals totals = new Totals();
    for (Sequence sequence : step) {
      totals.sequences.merge(sequence.role(), 1L, Long::sum);
      totals.rows.merge(sequence.role(), (long) sequence.rows(), Long::sum);
    }
    return totals;
  }

  /**
   * The number of sequences of a role, at least 1.
   *
   * @throws InternalFaultException when the step has none: a loss that needs the role cannot be
   *     averaged
   */
  public long sequences(Role role) {
    return positive(sequences.getOrDefault(role, 0L), "sequence", role);
  }

  /**
   * The number of rows of a role, at least 1.
   *
   * @throws InternalFaultException when the step has none: a loss that needs the role cannot be
   *     averaged
   */
  public long rows(Role role) {
    return positive(rows.getOrDefault(role, 0L), "row", role);
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
