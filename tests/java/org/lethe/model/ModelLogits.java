package org.lethe.model;

import java.util.ArrayList;
import java.util.List;
import org.lethe.method.RowKind;
import org.lethe.method.RowStatistics;

/**
 * All logits of short sequences, through the head's own kernel: a row for each token it may say.
 */
public final class ModelLogits {
  private ModelLogits() {}

  /** [sum of lengths, V] of the sequences end to end. */
  public static float[] of(Model model, List<int[]> sequences, boolean adapted) {
    int vocabulary = model.config().vocabularySize();
    PackedBatch packed = PackedBatch.of(sequences, 0);
    HeadRows.Builder rows = new HeadRows.Builder();
    for (int t = 0; t < packed.tokens(); t++) {
      int source = rows.source(t);
      for (int label = 0; label < vocabulary; label++) {
        rows.row(source, label, RowKind.STATISTICS.code(), -1);
      }
    }
    HeadRows built = rows.build(0);
    List<Float> logits = new ArrayList<>();
    try (Decoder decoder = new Decoder(model, packed.tokens(), false);
        Head head = new Head(model, built.rows())) {
      long residual = decoder.forward(packed, adapted ? packed.tokens() : 0, built.sourceTokens());
      float[] values = head.forward(residual, built, false);
      int columns = values.length / built.rows();
      for (int row = 0; row < built.rows(); row++) {
        logits.add(values[row * columns + RowStatistics.LABEL]);
      }
    }
    float[] all = new float[logits.size()];
    for (int i = 0; i < all.length; i++) {
      all[i] = logits.get(i);
    }
    return all;
  }

  /** max |x − reference| / max |reference|. */
  public static double error(float[] x, float[] reference) {
    if (x.length != reference.length) {
      throw new IllegalArgumentException(x.length + " logits against " + reference.length);
    }
    double worst = 0;
    double largest = 0;
    for (int i = 0; i < x.length; i++) {
      worst = Math.max(worst, Math.abs((double) x[i] - reference[i]));
      largest = Math.max(largest, Math.abs(reference[i]));
    }
    return Double.isFinite(worst) ? worst / largest : Double.POSITIVE_INFINITY;
  }
}
