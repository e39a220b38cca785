package org.lethe.run;

import java.nio.file.Path;
import org.lethe.evaluate.Evaluation;
import org.lethe.kernels.Backend;
import org.lethe.train.StepReport;

/** Told what a run does, on the run's own thread. */
public interface RunListener {
  /** A run that tells nobody. */
  RunListener NONE = new RunListener() {};

  /** A phase begins. */
  default void phase(String name, int steps) {}

  /** A step of the phase is done. */
  default void step(StepReport report) {}

  /** The model was judged in the middle of a phase. */
  default void evaluated(int stepsDone, Evaluation evaluation) {}

  /** A checkpoint is on the disk. */
  default void checkpoint(int stepsDone, Path directory) {}

  /** The phase is over. */
  default void phaseEnd() {}

  /** The model is loaded, and nothing else has been asked of the device. */
  default void opened(Backend backend) {}

  /** The work is done, and nothing is closed yet. */
  default void done(Backend backend) {}

  /** Something a user should know, such as truncated rows. */
  default void note(String message) {}
}
