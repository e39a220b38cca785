package org.lethe.train;

import java.util.BitSet;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import org.lethe.data.Example;
import org.lethe.data.ExampleEncoder;
import org.lethe.data.TokenSequence;
import org.lethe.method.Positions;
import org.lethe.model.Model;

/**
 * Finds the sensitive tokens of answers by a model, the online way of SeUL (arXiv 2402.05813): a
 * token counts as sensitive when the model gives it a low probability. The paper's threshold could
 * not be verified, so the rule is ours: a token of the answer is sensitive if and only if its nll
 * is above the mean nll of the answer's tokens, which is to say its probability is below their
 * geometric mean. The end token is none. Where all are equally likely, all are sensitive.
 */
public final class SensitiveTokens {
  private SensitiveTokens() {}

  /**
   * The rows' sequences with their sensitive tokens marked, as the model without adapters sees
   * them. Only the backend's thread may call it.
   */
  public static Map<Example, TokenSequence> of(
      Model model, ExampleEncoder encoder, List<Example> rows) {
    List<TokenSequence> sequences =
        rows.stream().map(r -> encoder.encode(r.question(), r.answer(), r.source())).toList();
    List<TokenSequence> marked;
    try (Scorer scorer = Scorer.forSequences(model, sequences, model.reference())) {
      marked =
          scorer.read(
              sequences,
              Positions.ANSWER,
              (sequence, statistics, place) -> {
                double[] nll = new double[place.rows()];
                for (int i = 0; i < nll.length; i++) {
                  nll[i] = statistics.nll(place.firstRow() + i);
                }
                return marked(sequence, nll, encoder.endId());
              });
    }
    Map<Example, TokenSequence> found = new HashMap<>();
    for (int i = 0; i < rows.size(); i++) {
      found.put(rows.get(i), marked.get(i));
    }
    return found;
  }

  /**
   * The rule.
   *
   * @param nll of the labels, in order
   */
  static TokenSequence marked(TokenSequence sequence, double[] nll, int end) {
    int[] ids = sequence.ids();
    int tokens = nll.length - (nll.length > 1 && ids[ids.length - 1] == end ? 1 : 0);
    double sum = 0;
    for (int i = 0; i < tokens; i++) {
      sum += nll[i];
    }
    double mean = sum / tokens;
    BitSet low = new BitSet();
    for (int i = 0; i < tokens; i++) {
      low.set(sequence.answerStart() + i, nll[i] > mean);
    }
    if (low.isEmpty()) {
      low.set(sequence.answerStart(), sequence.answerStart() + tokens);
    }
    return sequence.withSpans(TokenSequence.spans(low));
  }
}
