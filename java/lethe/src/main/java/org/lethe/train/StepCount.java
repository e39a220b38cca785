package org.lethe.train;

import org.lethe.UserException;

/** Numbers of steps: an int counts them. */
public final class StepCount {
  private StepCount() {}

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
