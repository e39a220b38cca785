package org.lethe.train;

import java.util.List;
import java.util.stream.IntStream;

/** The steps of a run: which sequences each consists of. A pure function of the step's number. */
public interface BatchSource {
  /** Steps in which every row is visited once. */
  int stepsPerEpoch();

  /** The sequences of a step, which may lie in any epoch. */
  List<StepSequence> step(int index);

  /** All steps of a run in order. */
  default Iterable<List<StepSequence>> steps(int count) {
    return () -> IntStream.range(0, count).mapToObj(this::step).iterator();
  }
}
