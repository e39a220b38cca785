package org.lethe.run;

import org.lethe.train.StepReport;

/** Told what a run does, on the run's own thread. */
public interface RunListener {
  /** A run that tells nobody. */
  RunListener NONE = new RunListener() {};

  /** A phase begins. */
  default void phase(String name, int steps) {}

  /** A step of the phase is done. */
  default void step(StepReport report) {}

  /** The phase is over. */
  default void phaseEnd() {}

  /** Something a user should know, such as truncated rows. */
  default void note(String message) {}
}
