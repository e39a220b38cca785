package org.lethe.train;

import java.util.List;

/**
 * An inner loop: every batch of another source is trained on several steps in a row.
 *
 * @param times at least 1
 */
public record RepeatedBatches(BatchSource batches, int times) implements BatchSource {
  @Override
  public int stepsPerEpoch() {
    return StepCount.of(
        (long) batches.stepsPerEpoch() * times,
        "an epoch of " + batches.stepsPerEpoch() + " batches with steps_per_batch=" + times);
  }

  @Override
  public boolean knownAhead() {
    return batches.knownAhead();
  }

  @Override
  public List<StepSequence> step(int index) {
    return batches.step(index / times);
  }
}
