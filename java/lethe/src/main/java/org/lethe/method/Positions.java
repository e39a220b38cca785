package org.lethe.method;

/** The rows of a sequence that a loss looks at; padding never counts, since there is none. */
public enum Positions {
  /** The rows that predict an answer token or the end of the sequence after it. */
  ANSWER,
  /** Every row that predicts a token: question and answer. */
  ALL
}
