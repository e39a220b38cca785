package org.lethe.train;

import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import org.lethe.method.Method;
import org.lethe.method.Positions;
import org.lethe.method.RowStatistics;
import org.lethe.method.Sequence;
import org.lethe.method.Targets;
import org.lethe.model.Decoder;
import org.lethe.model.Head;
import org.lethe.model.Model;

/**
 * The generic predictions of "Who's Harry Potter" as labels: the largest of u − α·relu(v − u), by a
 * pass without a gradient. The models behind it are frozen, so a label holds for a whole run. Only
 * the backend's thread may call it.
 */
public final class HardTargets {
  private HardTargets() {}

  /**
   * The same sequences with labels; where a row has no counterpart, none.
   *
   * @param alpha how much the reinforced model counts
   * @param translated whether the base reads the counterpart
   */
  public static List<StepSequence> label(
      Model model, List<StepSequence> sequences, double alpha, boolean translated) {
    Method method = Targets.mixture(Positions.ALL, alpha, translated);
    MicroBatch.Layout layout =
        new MicroBatch.Layout(method, null, false, Padding.NONE, Prefixes.NONE, 0);
    List<StepSequence> labelled = new ArrayList<>();
    int largest = sequences.stream().mapToInt(layout::tokens).max().orElse(1);
    try (Decoder decoder = new Decoder(model, largest, false);
        Head head = new Head(model, largest)) {
      for (StepSequence s : sequences) {
        MicroBatch piece = MicroBatch.cut(List.of(s), layout, largest).get(0);
        long stream = 0;
        for (int i = 0; i < piece.passes().size(); i++) {
          Passes.Pass pass = piece.passes().get(i);
          int[] sources = piece.headRows().passTokens().get(i);
          stream = decoder.forward(model.view(pass.view()), pass.packed(), sources);
          head.take(stream, piece.headRows(), i);
        }
        // No row is the batch's own, so where its stream would lie does not matter.
        float[] values = head.forward(stream, piece.headRows(), false);
        labelled.add(
            s.withLabels(
                labels(
                    s,
                    Rows.of(method.uses().get(0), s),
                    piece,
                    new RowStatistics(values, model.config().vocabularySize()))));
      }
    }
    return labelled;
  }

  private static int[] labels(
      StepSequence s, int[] rows, MicroBatch piece, RowStatistics statistics) {
    int[] labels = new int[s.tokens().ids().length];
    Arrays.fill(labels, Rows.NO_LABEL);
    Sequence placed = piece.sequences(statistics).get(0);
    for (int r = 0; r < rows.length; r++) {
      labels[rows[r]] = statistics.referenceArgmax(placed.firstRow() + r);
    }
    return labels;
  }
}
