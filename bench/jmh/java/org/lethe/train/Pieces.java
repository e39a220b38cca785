package org.lethe.train;

import java.util.List;
import org.lethe.method.Method;
import org.lethe.model.HeadRows;
import org.lethe.model.PackedBatch;

/** Lets benchmarks see how a step is cut, which is nobody else's affair. */
public final class Pieces {
  private final MicroBatch.Layout layout;
  private final int budget;

  /**
   * @param budget the most tokens of a piece
   */
  public Pieces(Method method, int budget) {
    this.layout = new MicroBatch.Layout(method, null);
    this.budget = budget;
  }

  /**
   * A piece of a step as the model takes it.
   *
   * @param packed its sequences, reference twins last
   * @param headRows the rows that losses look at
   */
  public record Piece(PackedBatch packed, HeadRows headRows) {}

  /** The pieces of a step, in order. */
  public List<Piece> cut(List<StepSequence> step) {
    return MicroBatch.cut(step, layout, budget).stream()
        .map(piece -> new Piece(piece.packed(), piece.headRows()))
        .toList();
  }

  /** Tokens of the largest piece. */
  public int largest(List<StepSequence> step) {
    return new StepCut(step, layout).largest(budget);
  }
}
