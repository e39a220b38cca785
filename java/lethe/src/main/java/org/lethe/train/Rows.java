package org.lethe.train;

import java.util.stream.IntStream;
import org.lethe.InternalFaultException;
import org.lethe.data.Counterpart;
import org.lethe.data.TokenSequence;
import org.lethe.method.Positions;
import org.lethe.method.Use;

/** Which rows of a tokenised sequence a loss or a score looks at. */
final class Rows {
  /** The label of a row that predicts nothing that is known. */
  static final int NO_LABEL = -1;

  private Rows() {}

  /** The rows, as indices of the tokens that they stand at, ascending. */
  static int[] of(Positions positions, TokenSequence tokens) {
    int length = tokens.ids().length;
    return switch (positions) {
      case ANSWER -> IntStream.range(tokens.answerStart() - 1, length - 1).toArray();
      case ALL -> IntStream.range(0, length - 1).toArray();
      case SPANS ->
          tokens.spans().stream()
              .flatMapToInt(span -> IntStream.range(span.from() - 1, span.to() - 1))
              .toArray();
      case ANSWER_UNSHIFTED -> IntStream.range(tokens.answerStart(), length).toArray();
      case EVERY -> IntStream.range(0, length).toArray();
    };
  }

  /** The rows that a use looks at: those that have a counterpart, where it compares with that. */
  static int[] of(Use use, StepSequence s) {
    int[] at = of(use.positions(), s.tokens());
    if (!use.sources().counterpart()) {
      return at;
    }
    if (s.counterpart() == null) {
      throw new InternalFaultException(s.source() + " has no counterpart to compare with");
    }
    int[] there = s.counterpart().rows();
    return IntStream.of(at).filter(t -> there[t] != Counterpart.NONE).toArray();
  }

  /** The label of a row of a sequence, or {@link #NO_LABEL}. */
  static int label(StepSequence s, int index) {
    return s.labels() == null ? label(s.tokens(), index) : s.labels()[index];
  }

  /** How many rows there are. */
  static int count(Positions positions, TokenSequence tokens) {
    int length = tokens.ids().length;
    return switch (positions) {
      case ANSWER, ANSWER_UNSHIFTED -> length - tokens.answerStart();
      case ALL -> length - 1;
      case SPANS -> tokens.spans().stream().mapToInt(span -> span.to() - span.from()).sum();
      case EVERY -> length;
    };
  }

  /** How many rows a use looks at. */
  static int count(Use use, StepSequence s) {
    return use.sources().counterpart() ? of(use, s).length : count(use.positions(), s.tokens());
  }

  /** The token that the row at {@code index} predicts, or {@link #NO_LABEL}. */
  static int label(TokenSequence tokens, int index) {
    return index + 1 < tokens.ids().length ? tokens.ids()[index + 1] : NO_LABEL;
  }
}
