package org.lethe.train;

import java.util.function.Consumer;
import org.lethe.method.Method;
import org.lethe.model.Model;

/** Runs the steps of a run in order. Only the backend's thread may call it. */
public final class Trainer implements AutoCloseable {
  private final TrainSettings settings;
  private final BatchSource batches;
  private final Step step;
  private int done;

  /**
   * Takes the memory of every step of the run.
   *
   * @param model with adapters, or with weights that train
   * @param reference the reference's nll by sequence; null runs the reference model in the same
   *     batch
   */
  public Trainer(
      Model model,
      Method method,
      TrainSettings settings,
      BatchSource batches,
      ReferenceCache reference) {
    this.settings = settings;
    this.batches = batches;
    int largest = Step.largestPiece(method, settings, reference, batches.steps(settings.steps()));
    this.step = new Step(model, method, settings, reference, largest);
  }

  /** Bytes of activations and head together. */
  public long bytes() {
    return step.bytes();
  }

  public boolean hasNext() {
    return done < settings.steps();
  }

  /** Runs the next step. */
  public StepReport next() {
    double rate =
        settings
            .schedule()
            .rate(settings.learningRate(), done, settings.warmupSteps(), settings.steps());
    StepReport report = step.run(done, batches.step(done), rate);
    done++;
    return report;
  }

  /** Runs what is left. */
  public void run(Consumer<StepReport> listener) {
    while (hasNext()) {
      listener.accept(next());
    }
  }

  @Override
  public void close() {
    step.close();
  }
}
