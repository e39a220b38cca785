package org.lethe.train;

import java.util.List;
import java.util.stream.IntStream;

/**
 * The steps of a run: which sequences each consists of. A pure function of the step's number, but
 * for a source that follows the model and says so at {@link #prepare}.
 */
public interface BatchSource {
  /** Steps in which every row is visited once. */
  int stepsPerEpoch();

  /**
   * Called once before each step of a run, in order, with the model as the steps before have left
   * it. A resumed run begins with the step it goes on with.
   */
  default void prepare(int index) {}

  /**
   * Whether {@link #step} may be called for the next step, on another thread, while one is
   * computed: where it depends on nothing but the step's number, and {@link #prepare} does nothing.
   * It is never called by two threads at once.
   */
  default boolean knownAhead() {
    return false;
  }

  /** The sequences of a step, which may lie in any epoch. */
  List<StepSequence> step(int index);

  /** All steps of a run in order. */
  default Iterable<List<StepSequence>> steps(int count) {
    return () -> IntStream.range(0, count).mapToObj(this::step).iterator();
  }

  /**
   * Steps that are at least as large as those of a run, by which its memory is taken: the run's
   * own, where they are known before.
   */
  default Iterable<List<StepSequence>> sizes(int count) {
    return steps(count);
  }
}
