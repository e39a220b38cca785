package org.lethe.internal.cli;

import org.lethe.run.RunListener;
import org.lethe.train.StepReport;

/**
 * Shows a run's phases as progress. Where several runs go side by side, one call at a time, it
 * shows the phase that began first.
 */
final class ProgressListener implements RunListener, AutoCloseable {
  private final Console console;
  private Progress progress;
  private Thread shown;
  private long done;

  ProgressListener(Console console) {
    this.console = console;
  }

  @Override
  public void phase(String name, int steps) {
    if (progress == null) {
      progress = new Progress(console, name, steps);
      shown = Thread.currentThread();
      done = 0;
    }
  }

  @Override
  public void step(StepReport report) {
    if (Thread.currentThread().equals(shown)) {
      progress.update(++done, report.tokens(), report.loss());
    }
  }

  @Override
  public void phaseEnd() {
    if (Thread.currentThread().equals(shown)) {
      close();
    }
  }

  @Override
  public void note(String message) {
    console.err().println("note: " + message);
  }

  @Override
  public void close() {
    if (progress != null) {
      progress.close();
      progress = null;
      shown = null;
    }
  }
}
