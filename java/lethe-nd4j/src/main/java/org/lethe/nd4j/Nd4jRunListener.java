package org.lethe.nd4j;

import java.util.List;
import java.util.function.Consumer;
import org.lethe.UserException;
import org.lethe.model.Model;
import org.lethe.run.RunListener;
import org.lethe.train.StepReport;

/**
 * Turns the events of a run into the calls of {@link TrainingListener}s.
 *
 * <p>Given to {@link org.lethe.run.Unlearn#run} as its listener, or step by step: {@code
 * trainer.run(listener::step)}, then {@link #phaseEnd}. Iterations and epochs count on from phase
 * to phase; within one, the number of a step comes from its report, so that a resumed run goes on
 * where it stopped.
 */
public final class Nd4jRunListener implements RunListener {
  private final TrainedModel model;
  private final int stepsPerEpoch;
  private final List<TrainingListener> listeners;
  private int phaseIteration;
  private int phaseEpoch;
  private int epoch;
  private boolean inEpoch;
  private boolean phaseHasSteps;

  /**
   * @param model the one that trains, for its parameters; null when no listener asks for them
   * @param stepsPerEpoch of every phase, as {@link org.lethe.train.BatchSource#stepsPerEpoch} says;
   *     0 makes each phase one epoch
   * @param listeners called in this order
   */
  public Nd4jRunListener(Model model, int stepsPerEpoch, List<TrainingListener> listeners) {
    if (stepsPerEpoch < 0) {
      throw new UserException(
          stepsPerEpoch + " steps per epoch make no epoch; give 0 for one epoch per phase");
    }
    this.model = new TrainedModel(model);
    this.stepsPerEpoch = stepsPerEpoch;
    this.listeners = List.copyOf(listeners);
  }

  /** Listeners that ask for no parameters, each phase being one epoch. */
  public static Nd4jRunListener of(TrainingListener... listeners) {
    return new Nd4jRunListener(null, 0, List.of(listeners));
  }

  @Override
  public void phase(String name, int steps) {
    phaseEnd();
    startEpoch(name);
  }

  @Override
  public void step(StepReport report) {
    int ofPhase = stepsPerEpoch == 0 ? 0 : report.step() / stepsPerEpoch;
    if (!inEpoch) {
      epoch = phaseEpoch + ofPhase;
      startEpoch(model.phase());
    } else if (!phaseHasSteps) {
      // A resumed phase began before its first report said how far it had come.
      epoch = phaseEpoch + ofPhase;
    }
    phaseHasSteps = true;
    int iteration = phaseIteration + report.step();
    model.done(report, iteration, epoch);
    tell(listener -> listener.iterationDone(model, iteration, epoch));
    if (stepsPerEpoch > 0 && (report.step() + 1) % stepsPerEpoch == 0) {
      endEpoch();
    }
  }

  @Override
  public void phaseEnd() {
    if (inEpoch) {
      endEpoch();
    }
    if (phaseHasSteps) {
      phaseIteration = model.iterationCount() + 1;
      phaseHasSteps = false;
    }
    phaseEpoch = epoch;
  }

  private void startEpoch(String phase) {
    inEpoch = true;
    model.begin(phase, nextIteration(), epoch);
    tell(listener -> listener.onEpochStart(model));
  }

  private int nextIteration() {
    return phaseHasSteps ? model.iterationCount() + 1 : phaseIteration;
  }

  private void endEpoch() {
    inEpoch = false;
    tell(listener -> listener.onEpochEnd(model));
    epoch++;
  }

  private void tell(Consumer<TrainingListener> call) {
    listeners.forEach(call);
  }
}
