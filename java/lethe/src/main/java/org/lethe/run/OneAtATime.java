package org.lethe.run;

import java.nio.file.Path;
import org.lethe.evaluate.Evaluation;
import org.lethe.train.StepReport;

/** Passes on what several runs tell, one call at a time. */
final class OneAtATime implements RunListener {
  private final RunListener listener;

  OneAtATime(RunListener listener) {
    this.listener = listener;
  }

  @Override
  public synchronized void phase(String name, int steps) {
    listener.phase(name, steps);
  }

  @Override
  public synchronized void step(StepReport report) {
    listener.step(report);
  }

  @Override
  public synchronized void phaseEnd() {
    listener.phaseEnd();
  }

  @Override
  public synchronized void evaluated(int stepsDone, Evaluation evaluation) {
    listener.evaluated(stepsDone, evaluation);
  }

  @Override
  public synchronized void checkpoint(int stepsDone, Path directory) {
    listener.checkpoint(stepsDone, directory);
  }

  @Override
  public synchronized void note(String message) {
    listener.note(message);
  }
}
