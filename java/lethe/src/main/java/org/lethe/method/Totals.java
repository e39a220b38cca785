package org.lethe.method;

import java.util.List;
import java.util.function.IntToLongFunction;
import org.lethe.InternalFaultException;

/**
 * How many sequences and rows each use has in a whole step. These are the denominators of every
 * loss, so that cutting the step into micro-batches changes no coefficient. Immutable.
 */
public final class Totals {
  private final List<Sequence> step;
  private final long least;

  private Totals(List<Sequence> step, long least) {
    this.step = List.copyOf(step);
    this.least = least;
  }

  /** The totals of a step made of these sequences. */
  public static Totals of(List<Sequence> step) {
    return new Totals(step, 1);
  }

  /** The totals of a part of a step, which may lack what the whole step has. */
  public static Totals ofShare(List<Sequence> share) {
    return new Totals(share, 0);
  }

  /**
   * The number of sequences of a use; at least 1 in a whole step.
   *
   * @throws InternalFaultException when the step has none: a loss that needs the use cannot be
   *     averaged
   */
  public long sequences(Use use) {
    return positive(step.stream().filter(s -> s.serves(use)).count(), "sequence", use);
  }

  /**
   * The number of rows of a use; at least 1 in a whole step.
   *
   * @throws InternalFaultException when the step has none: a loss that needs the use cannot be
   *     averaged
   */
  public long rows(Use use) {
    return positive(picked(use, rows -> rows), "row", use);
  }

  /**
   * The number of rows of a use that a loss picks of each sequence; may be 0.
   *
   * @param picked how many it picks of so many
   */
  public long picked(Use use, IntToLongFunction picked) {
    return step.stream()
        .filter(s -> s.serves(use))
        .mapToLong(s -> picked.applyAsLong(s.rows()))
        .sum();
  }

  /**
   * The number of pairs (a, b): both uses must have the same number of sequences.
   *
   * @throws InternalFaultException when they have not, or have none
   */
  public long pairs(Use a, Use b) {
    if (sequences(a) != sequences(b)) {
      throw new InternalFaultException(
          "A step has "
              + sequences(a)
              + " sequences "
              + a.role()
              + " but "
              + sequences(b)
              + " "
              + b.role());
    }
    return sequences(a);
  }

  private long positive(long count, String what, Use use) {
    if (count < least) {
      throw new InternalFaultException(
          "A step has no " + what + " of role " + use.role() + ", which its method needs");
    }
    return count;
  }
}
