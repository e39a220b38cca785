package org.lethe.data;

import org.lethe.UserException;

/**
 * Says which retain row, refusal line, answers of others and alternate answer go with a forget row
 * in an epoch, and in which order an epoch visits its rows. A pure function of its arguments: a
 * resumed run sees the same pairs.
 *
 * @param kind whether partners change from epoch to epoch
 * @param seed the run's seed
 * @param retainRows number of retain rows, 0 when the method uses none
 * @param refusalLines number of refusal lines, 0 when the method uses none
 */
public record Pairing(Kind kind, long seed, int retainRows, int refusalLines) {
  private static final long RETAIN = 1;
  private static final long REFUSAL = 2;
  private static final long ORDER = 3;
  private static final long MISMATCH = 4;
  private static final long ALTERNATE = 5;

  /** How partners are drawn. */
  public enum Kind {
    /** Drawn anew for every (seed, epoch, row). */
    FRESH,
    /**
     * Drawn from the row's index alone: the same partner in every epoch and for every seed, as the
     * "closer look" paper's code does by seeding its generator with the index. Only as many
     * distinct retain rows are ever seen as there are forget rows.
     */
    FIXED,
    /**
     * The very partners of the "closer look" paper's code (arXiv 2410.08109, {@code
     * dataset/data_module.py}): for forget row i, a {@link TorchGenerator} seeded with i draws an
     * offset to i among the retain rows, then the refusal line. They are those of its runs when
     * rows and lines stand in its order.
     */
    CLOSER_LOOK
  }

  public Pairing {
    if (retainRows < 0 || refusalLines < 0) {
      throw new IllegalArgumentException(
          "negative number of rows: retain " + retainRows + ", refusals " + refusalLines);
    }
  }

  /** Index of the retain row, in [0, retainRows), that goes with a forget row. */
  public int retainRow(int epoch, int forgetRow) {
    if (retainRows == 0) {
      throw new UserException(
          "The retain set is empty, but the method pairs every forget row with a retain row;"
              + " give a retain file, or choose a method without a retain loss.");
    }
    if (kind == Kind.CLOSER_LOOK) {
      int offset = new TorchGenerator(forgetRow).below(retainRows);
      return (int) (((long) forgetRow + offset) % retainRows);
    }
    return draw(RETAIN, retainRows, epoch, forgetRow);
  }

  /**
   * Index of the refusal line, in [0, refusalLines). The forget row and its retain partner are
   * refused with the same line.
   */
  public int refusal(int epoch, int forgetRow) {
    if (refusalLines == 0) {
      throw new UserException(
          "There are no refusal lines, but the method teaches a refusal; give a refusal file with"
              + " at least one line.");
    }
    if (kind == Kind.CLOSER_LOOK) {
      TorchGenerator generator = new TorchGenerator(forgetRow);
      generator.bits();
      return generator.below(refusalLines);
    }
    return draw(REFUSAL, refusalLines, epoch, forgetRow);
  }

  /**
   * The order in which a forget row takes answers of others, as indices in [0, answers): it is
   * given the first ones that are not its own. Drawn without replacement, as LLMU's code does.
   */
  public int[] mismatches(int epoch, int forgetRow, int answers) {
    return kind == Kind.FRESH
        ? CounterRng.permutation(answers, seed, MISMATCH, epoch, forgetRow)
        : CounterRng.permutation(answers, 0, MISMATCH, forgetRow);
  }

  /** Which of a forget row's alternate answers goes with it, in [0, alternates). */
  public int alternate(int epoch, int forgetRow, int alternates) {
    return draw(ALTERNATE, alternates, epoch, forgetRow);
  }

  /** The order in which an epoch visits {@code rows} rows; fresh per epoch for every kind. */
  public int[] order(int rows, int epoch) {
    return CounterRng.permutation(rows, seed, ORDER, epoch);
  }

  private int draw(long stream, int n, int epoch, int row) {
    return switch (kind) {
      case FRESH -> CounterRng.below(n, seed, stream, epoch, row);
      case FIXED, CLOSER_LOOK -> CounterRng.below(n, 0, stream, row);
    };
  }
}
