package org.lethe.train;

import org.lethe.UserException;

/** Numbers of steps: an int counts them. */
public final class StepCount {
  /** The most steps of a run: what each of them takes is counted before the first. */
  public static final int MOST = 1_000_000;

  private StepCount() {}

  /**
   * The number, where a run may have so many.
   *
   * @param what gives so many, for the message
   * @throws UserException when it may not
   */
  public static int ofRun(long steps, String what) {
    if (steps > MOST) {
      throw new UserException(
          what
              + " would be "
              + steps
              + " steps, more than "
              + MOST
              + ", all of which are looked at before the first; make it smaller, and go on with"
              + " another run");
    }
    return (int) steps;
  }

  /**
   * The number, where an int holds it.
   *
   * @param what gives so many, for the message
   * @throws UserException when it does not
   */
  public static int of(long steps, String what) {
    if (steps > Integer.MAX_VALUE) {
      throw new UserException(
          what
              + " would be "
              + steps
              + " steps, more than "
              + Integer.MAX_VALUE
              + "; make it smaller");
    }
    return (int) steps;
  }

  /** How many batches rows make, the last of which may be short. */
  public static int batches(int rows, int batchSize) {
    return (int) (((long) rows + batchSize - 1) / batchSize);
  }
}
