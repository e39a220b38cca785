package org.lethe.engine;

import java.nio.file.Path;
import org.lethe.evaluate.Evaluation;
import org.lethe.train.StepReport;

/**
 * Told what a training does, on the engine's thread and between its steps: it may use the model,
 * and {@link Training#cancel}; what it throws ends the training and reaches whoever waits for it.
 */
public interface TrainingListener {
  /** A step is done. */
  default void step(StepReport report) {}

  /**
   * The model was judged in the middle of the training.
   *
   * @param stepsDone from the first of the whole training
   */
  default void evaluated(int stepsDone, Evaluation evaluation) {}

  /** A checkpoint is on the disk. */
  default void checkpoint(int stepsDone, Path directory) {}

  /** Something went wrong that does not end the training, such as a checkpoint that failed. */
  default void note(String message) {}
}
