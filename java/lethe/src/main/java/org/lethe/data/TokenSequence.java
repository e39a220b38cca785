package org.lethe.data;

import java.util.ArrayList;
import java.util.Arrays;
import java.util.BitSet;
import java.util.List;

/**
 * A tokenised row: {@code [bos] prompt answer eos}.
 *
 * @param ids token ids [tokens]
 * @param answerStart index of the first answer token: the labels are {@code ids[answerStart ..]},
 *     predicted from positions {@code answerStart - 1 ..}; at least 1, below {@code ids.length}
 * @param spans marked tokens, in order and apart from each other; empty where nothing was marked
 */
// The array is compared by content below, and copying it for every reader would cost more than it
// guards.
@SuppressWarnings("ArrayRecordComponent")
public record TokenSequence(int[] ids, int answerStart, List<Span> spans) {
  /**
   * Marked tokens.
   *
   * @param from index of the first one, at least 1: the first token of a row is not predicted
   * @param to index behind the last one
   */
  public record Span(int from, int to) {}

  public TokenSequence {
    if (answerStart < 1 || answerStart >= ids.length) {
      throw new IllegalArgumentException(
          "answerStart " + answerStart + " outside [1, " + ids.length + ")");
    }
    spans = List.copyOf(spans);
    int end = 1;
    for (Span span : spans) {
      if (span.from() < end || span.to() <= span.from() || span.to() > ids.length) {
        throw new IllegalArgumentException(
            span + " is empty, overlaps the one before or lies outside [1, " + ids.length + ")");
      }
      end = span.to();
    }
  }

  /** One without marks. */
  public TokenSequence(int[] ids, int answerStart) {
    this(ids, answerStart, List.of());
  }

  /** Number of label tokens. */
  public int answerTokens() {
    return ids.length - answerStart;
  }

  /** The marked tokens, by index. */
  public BitSet marked() {
    BitSet marked = new BitSet();
    spans.forEach(span -> marked.set(span.from(), span.to()));
    return marked;
  }

  /** Runs of set bits as spans. */
  public static List<Span> spans(BitSet marked) {
    List<Span> spans = new ArrayList<>();
    for (int from = marked.nextSetBit(0); from >= 0; ) {
      int to = marked.nextClearBit(from);
      spans.add(new Span(from, to));
      from = marked.nextSetBit(to);
    }
    return spans;
  }

  /** The same with these tokens marked. */
  public TokenSequence withSpans(List<Span> marked) {
    return new TokenSequence(ids, answerStart, marked);
  }

  @Override
  public boolean equals(Object other) {
    return other instanceof TokenSequence sequence
        && answerStart == sequence.answerStart
        && Arrays.equals(ids, sequence.ids)
        && spans.equals(sequence.spans);
  }

  @Override
  public int hashCode() {
    return 31 * (31 * Arrays.hashCode(ids) + answerStart) + spans.hashCode();
  }

  @Override
  public String toString() {
    return "TokenSequence[ids="
        + Arrays.toString(ids)
        + ", answerStart="
        + answerStart
        + ", spans="
        + spans
        + "]";
  }
}
