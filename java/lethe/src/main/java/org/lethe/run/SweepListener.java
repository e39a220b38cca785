package org.lethe.run;

import java.nio.file.Path;
import org.lethe.evaluate.Evaluation;
import org.lethe.train.StepReport;

/** Says of one run of a sweep which it is, and remembers whether its training began. */
final class SweepListener implements RunListener {
  private final RunListener listener;
  private final String which;
  private boolean trained;

  /**
   * @param which such as "2/6"
   */
  SweepListener(RunListener listener, String which) {
    this.listener = listener;
    this.which = which;
  }

  /** Whether a failure can be the training's own. */
  boolean trained() {
    return trained;
  }

  @Override
  public void phase(String name, int steps) {
    trained = true;
    listener.phase(which + " " + name, steps);
  }

  @Override
  public void step(StepReport report) {
    listener.step(report);
  }

  @Override
  public void phaseEnd() {
    listener.phaseEnd();
  }

  @Override
  public void evaluated(int stepsDone, Evaluation evaluation) {
    listener.evaluated(stepsDone, evaluation);
  }

  @Override
  public void checkpoint(int stepsDone, Path directory) {
    listener.checkpoint(stepsDone, directory);
  }

  @Override
  public void note(String message) {
    listener.note(which + ": " + message);
  }
}
