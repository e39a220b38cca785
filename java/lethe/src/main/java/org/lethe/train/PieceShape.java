package org.lethe.train;

import java.util.List;
import org.lethe.method.Method;
import org.lethe.model.Model;
import org.lethe.model.ScratchPlan;
import org.lethe.model.ShapeBucket;

/** What else of a step's pieces memory depends on. */
public final class PieceShape {
  private PieceShape() {}

  /**
   * Bytes of the engine's scratch memory that a run's steps take.
   *
   * @param piece tokens of the largest one
   */
  public static long scratch(
      Model model,
      Method method,
      TrainSettings settings,
      ReferenceCache reference,
      Iterable<List<StepSequence>> steps,
      int piece) {
    StepMemory memory =
        StepMemory.of(model, settings, StepSizing.headRows(method, settings, reference));
    int sequences = sequences(method, reference, steps, memory.filled());
    return scratch(model.scratch(), memory, sequences, piece);
  }

  /** The same of a run that nothing was loaded of. */
  public static long scratch(ScratchPlan plan, StepMemory memory, int sequences, int piece) {
    return plan.step(memory.tokens(piece), memory.rows(piece), sequences);
  }

  /**
   * The most sequences of a piece, those of the reference among them: as many as the largest step
   * has.
   *
   * @param filled whether pieces are filled up to shapes of graphs
   */
  public static int sequences(
      Method method, ReferenceCache reference, Iterable<List<StepSequence>> steps, boolean filled) {
    StepSizes.Sequences sequences = new StepSizes.Sequences(method, reference);
    steps.forEach(sequences::add);
    return sequences(sequences.most(), filled);
  }

  /** The same, where the steps have so many at most. */
  static int sequences(int most, boolean filled) {
    return filled ? ShapeBucket.sequences(most) : most;
  }
}
