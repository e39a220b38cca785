package org.lethe.train;

import java.util.List;
import org.lethe.data.CounterRng;

/**
 * The counters of a step's dropout masks. A token's is a function of the run's seed, the step, the
 * role and pair of its sequence within the step and its position there: a mask depends neither on
 * how a step is packed and cut into micro-batches or shards, nor on the threads, nor on whether the
 * run was resumed. Which inputs a counter drops in which module is the kernel's affair ({@code
 * lethe_linear_adapter} in lethe.h).
 */
final class DropoutKeys {
  /** "dropout": apart from every other use of the run's seed. */
  private static final long STREAM = 0x64726f706f7574L;

  private final long seed;
  private final int step;

  /**
   * @param step from 0, of the whole run
   */
  DropoutKeys(long seed, int step) {
    this.seed = seed;
    this.step = step;
  }

  /** The counter of one token. */
  long of(StepSequence sequence, int position) {
    // The hash of a text is part of Java's specification: it stays the same everywhere.
    int role = sequence.role().name().hashCode();
    return CounterRng.bits(seed, STREAM, step, role, sequence.pair(), position);
  }

  /** The counters of sequences end to end. */
  long[] of(List<StepSequence> sequences) {
    long[] keys = new long[sequences.stream().mapToInt(s -> s.tokens().ids().length).sum()];
    int next = 0;
    for (StepSequence sequence : sequences) {
      for (int t = 0; t < sequence.tokens().ids().length; t++) {
        keys[next++] = of(sequence, t);
      }
    }
    return keys;
  }
}
