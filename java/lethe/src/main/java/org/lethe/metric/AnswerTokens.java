package org.lethe.metric;

import java.util.Arrays;
import org.lethe.InternalFaultException;
import org.lethe.data.TokenSequence;
import org.lethe.method.RowStatistics;
import org.lethe.method.Sequence;

/**
 * What a model said of each token of an answer when it was given all tokens before it (teacher
 * forcing). With p the model's distribution at the token and x the token, natural logarithms:
 *
 * @param logProbabilities log p(x)
 * @param hits whether x is the most likely token (of equally likely ones the lowest)
 * @param means E_p[log p]
 * @param variances E_p[log² p] − E_p[log p]²
 * @param ended whether the last token is the end token
 */
// Arrays are compared by content below; copying them for every reader would cost more than it
// guards.
@SuppressWarnings("ArrayRecordComponent")
public record AnswerTokens(
    double[] logProbabilities, boolean[] hits, double[] means, double[] variances, boolean ended) {
  public AnswerTokens {
    int tokens = logProbabilities.length;
    if (hits.length != tokens || means.length != tokens || variances.length != tokens) {
      throw new InternalFaultException("Answer tokens of unequal numbers");
    }
  }

  /**
   * The labels of a sequence.
   *
   * @param rows the sequence's rows: one per answer token
   * @param endToken the tokenizer's
   */
  public static AnswerTokens of(
      TokenSequence sequence, RowStatistics statistics, Sequence rows, int endToken) {
    int tokens = rows.rows();
    int[] ids = sequence.ids();
    double[] logs = new double[tokens];
    boolean[] hits = new boolean[tokens];
    double[] means = new double[tokens];
    double[] variances = new double[tokens];
    for (int i = 0; i < tokens; i++) {
      int row = rows.firstRow() + i;
      logs[i] = -statistics.nll(row);
      hits[i] = statistics.argmax(row) == ids[sequence.answerStart() + i];
      means[i] = -statistics.entropy(row);
      variances[i] = statistics.meanSquaredLog(row) - means[i] * means[i];
    }
    return new AnswerTokens(logs, hits, means, variances, ids[ids.length - 1] == endToken);
  }

  /** Number of tokens. */
  public int count() {
    return logProbabilities.length;
  }

  /** The answer's own tokens: without the end token, where there is one. */
  public AnswerTokens withoutEnd() {
    return ended ? withoutLast() : this;
  }

  /** Without the last token, whatever it is. */
  public AnswerTokens withoutLast() {
    int tokens = Math.max(0, count() - 1);
    return new AnswerTokens(
        Arrays.copyOf(logProbabilities, tokens),
        Arrays.copyOf(hits, tokens),
        Arrays.copyOf(means, tokens),
        Arrays.copyOf(variances, tokens),
        false);
  }

  @Override
  public boolean equals(Object other) {
    return other instanceof AnswerTokens tokens
        && ended == tokens.ended
        && Arrays.equals(logProbabilities, tokens.logProbabilities)
        && Arrays.equals(hits, tokens.hits)
        && Arrays.equals(means, tokens.means)
        && Arrays.equals(variances, tokens.variances);
  }

  @Override
  public int hashCode() {
    return 31 * Arrays.hashCode(logProbabilities) + Arrays.hashCode(hits);
  }

  @Override
  public String toString() {
    return "AnswerTokens[" + count() + " tokens, ended=" + ended + "]";
  }
}
