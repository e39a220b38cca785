package org.lethe.method;

/**
 * The rows of a sequence of T tokens that a loss looks at; row t predicts token t + 1. Padding
 * never counts, since there is none.
 */
public enum Positions {
  /** The rows that predict an answer token or the end of the sequence after it. */
  ANSWER,
  /** Every row that predicts a token: question and answer, T − 1 rows. */
  ALL,
  /** The rows that predict a token of a marked span. */
  SPANS,
  /**
   * The rows at the answer's own tokens, one later than {@link #ANSWER}: what published code looks
   * at that masks logits by labels without shifting them. The last row has no label.
   */
  ANSWER_UNSHIFTED,
  /** All T rows, the last one, which predicts nothing that is known, included: it has no label. */
  EVERY;

  /** Whether every row has a label. */
  public boolean labelled() {
    return this == ANSWER || this == ALL || this == SPANS;
  }
}
