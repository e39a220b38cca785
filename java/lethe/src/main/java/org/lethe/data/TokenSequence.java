package org.lethe.data;

import java.util.Arrays;

/**
 * A tokenised row: {@code [bos] prompt answer eos}.
 *
 * @param ids token ids [tokens]
 * @param answerStart index of the first answer token: the labels are {@code ids[answerStart ..]},
 *     predicted from positions {@code answerStart - 1 ..}; at least 1, below {@code ids.length}
 */
// The array is compared by content below, and copying it for every reader would cost more than it
// guards.
@SuppressWarnings("ArrayRecordComponent")
public record TokenSequence(int[] ids, int answerStart) {
  public TokenSequence {
    if (answerStart < 1 || answerStart >= ids.length) {
      throw new IllegalArgumentException(
          "answerStart " + answerStart + " outside [1, " + ids.length + ")");
    }
  }

  /** Number of label tokens. */
  public int answerTokens() {
    return ids.length - answerStart;
  }

  @Override
  public boolean equals(Object other) {
    return other instanceof TokenSequence sequence
        && answerStart == sequence.answerStart
        && Arrays.equals(ids, sequence.ids);
  }

  @Override
  public int hashCode() {
    return 31 * Arrays.hashCode(ids) + answerStart;
  }

  @Override
  public String toString() {
    return "TokenSequence[ids=" + Arrays.toString(ids) + ", answerStart=" + answerStart + "]";
  }
}
