package org.lethe;

/**
 * A run was asked to stop and did, with a checkpoint where it writes any. Not a failure: it can go
 * on.
 */
public final class StoppedException extends LetheException {
  private static final long serialVersionUID = 1L;

  private final int steps;

  /**
   * @param steps that were done
   * @param message says who asked, and how to go on
   */
  public StoppedException(int steps, String message) {
    super(message, null);
    this.steps = steps;
  }

  /** Steps done when it stopped. */
  public int steps() {
    return steps;
  }
}
