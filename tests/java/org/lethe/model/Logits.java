package org.lethe.model;

import java.util.List;
import org.lethe.kernels.HeadOps;
import org.lethe.method.RowKind;

/** log p of every token of the vocabulary at every position of a sequence: [T * V]. */
public final class Logits {
  private Logits() {}

  /** By a view of a model. */
  public static float[] logProbabilities(Model model, View view, int[] ids) {
    int vocabulary = model.config().vocabularySize();
    try (Decoder decoder = new Decoder(model, ids.length, false);
        Head head = new Head(model, ids.length * vocabulary)) {
      PackedBatch batch = PackedBatch.of(List.of(ids), 0);
      HeadRows.Builder rows = new HeadRows.Builder();
      for (int t = 0; t < ids.length; t++) {
        int source = rows.source(t);
        for (int v = 0; v < vocabulary; v++) {
          rows.row(source, v, RowKind.STATISTICS.code(), -1);
        }
      }
      HeadRows built = rows.build(0);
      long x = decoder.forward(view, batch, built.sourceTokens());
      float[] statistics = head.forward(x, built, false);
      float[] log = new float[ids.length * vocabulary];
      for (int i = 0; i < log.length; i++) {
        // The label's logit less the logsumexp.
        log[i] = statistics[i * HeadOps.STATISTICS + 1] - statistics[i * HeadOps.STATISTICS];
      }
      return log;
    }
  }

  /** Of logits [T, V]. */
  public static float[] logProbabilities(float[] logits, int tokens) {
    int vocabulary = logits.length / tokens;
    float[] log = new float[logits.length];
    for (int t = 0; t < tokens; t++) {
      double sum = 0;
      for (int v = 0; v < vocabulary; v++) {
        sum += StrictMath.exp(logits[t * vocabulary + v]);
      }
      for (int i = t * vocabulary; i < (t + 1) * vocabulary; i++) {
        log[i] = (float) (logits[i] - StrictMath.log(sum));
      }
    }
    return log;
  }

  /** The largest difference, relative to the largest number. */
  public static double error(float[] expected, float[] found) {
    double largest = 0;
    double worst = 0;
    for (int i = 0; i < expected.length; i++) {
      largest = Math.max(largest, Math.abs(expected[i]));
      worst = Math.max(worst, Math.abs(expected[i] - found[i]));
    }
    return worst / largest;
  }
}
