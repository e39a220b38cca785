package org.lethe.method;

/**
 * How the values of rows become one number; the literature has three, and a loss of one is not that
 * of another with other numbers: they weigh long answers differently.
 */
public enum Reduction {
  /** Mean over all rows of the step. */
  TOKEN_MEAN,
  /** Mean over sequences of the mean over a sequence's rows. */
  SEQUENCE_MEAN,
  /** Mean over sequences of the sum over a sequence's rows. */
  SEQUENCE_SUM;

  /** The option that chooses one. */
  static Option option(Reduction standard, String source) {
    return Option.choice("reduction", standard, "how rows become one number", source, values());
  }

  static Reduction of(Options options) {
    return options.choice("reduction", Reduction.class);
  }

  /** The number of terms of a whole step. */
  long count(Totals totals, Use use) {
    return this == TOKEN_MEAN ? totals.rows(use) : totals.sequences(use);
  }

  /** The terms of the use's rows, each row's value with a slope of its own. */
  void terms(Observed seen, Use use, RowValue value, Accumulator out) {
    for (Sequence sequence : seen.of(use)) {
      ExactSum sum = new ExactSum();
      double share = this == SEQUENCE_MEAN ? 1.0 / sequence.rows() : 1;
      for (int i = 0; i < sequence.rows(); i++) {
        int row = sequence.firstRow() + i;
        double at = value.at(row);
        if (this == TOKEN_MEAN) {
          out.term(at);
        } else {
          sum.add(at);
        }
        out.slope(row, share * value.slope(row));
      }
      if (this != TOKEN_MEAN) {
        out.term(sequence.rows() == 0 ? 0 : sum.value() * share);
      }
    }
  }

  /** A value per row. */
  interface RowValue {
    /** The value of a row. */
    double at(int row);

    /** Its derivative with respect to the row's scalar. */
    default double slope(int row) {
      return 1;
    }
  }
}
