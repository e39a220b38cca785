package org.lethe.train;

import org.lethe.UserException;

/**
 * Which side of the pairs a step trains on: both at once, or forget and retain in turns.
 *
 * @param forget steps (or epochs) on forget rows in a row, at least 1
 * @param retain steps (or epochs) on their retain rows after those, at least 1
 */
public record Turns(Unit unit, int forget, int retain) {
  /** Both sides in every step. */
  public static final Turns JOINT = new Turns(Unit.JOINT, 1, 1);

  /** What a turn is counted in. */
  public enum Unit {
    JOINT,
    STEPS,
    EPOCHS
  }

  /**
   * A step's place.
   *
   * @param batch which batch of its side it is, from 0
   */
  record Place(boolean forget, boolean retain, int batch) {}

  public Turns {
    if (forget < 1 || retain < 1) {
      throw new UserException(
          "turns of "
              + forget
              + " forget and "
              + retain
              + " retain steps: each must be at least 1; to train one side alone set"
              + " method.forget_coefficient=0, or method.retain=none");
    }
  }

  Place at(int step, int batchesPerEpoch) {
    if (unit == Unit.JOINT) {
      return new Place(true, true, step);
    }
    long length = unit == Unit.EPOCHS ? batchesPerEpoch : 1;
    long cycle = ((long) forget + retain) * length;
    long within = step % cycle;
    long rounds = step / cycle;
    long forgetSteps = forget * length;
    // Neither side has more batches than there are steps.
    return within < forgetSteps
        ? new Place(true, false, (int) (rounds * forgetSteps + within))
        : new Place(false, true, (int) (rounds * retain * length + within - forgetSteps));
  }

  /** Steps in which the forget rows are visited once, the retain turns between them included. */
  public int stepsPerEpoch(int batchesPerEpoch) {
    return switch (unit) {
      case JOINT -> batchesPerEpoch;
      case STEPS ->
          StepCount.of(
              (long) StepCount.batches(batchesPerEpoch, forget) * ((long) forget + retain),
              "an epoch with forget_turn=" + forget + " and retain_turn=" + retain);
      // An epoch of either side.
      case EPOCHS -> batchesPerEpoch;
    };
  }
}
