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
 * <p>Given to {@link org.lethe.run.Unlearn#run} as its listener, or called by hand: {@link #phase},
 * {@code trainer.run(listener::step)}, {@link #phaseEnd}. (Without the phase's length an epoch is
 * announced when its first step is over.) Iterations and epochs count on from phase to phase;
 * within one, the number of a step comes from its report, so that a resumed run goes on where it
 * stopped.
 */
public final class Nd4jRunListener implements RunListener {
  private final TrainedModel model;
  private final int stepsPerEpoch;
  private final List<TrainingListener> listeners;
  private int phaseSteps;
  private int phaseIteration;
  private int nextIteration;
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
    phaseSteps = steps;
    startEpoch(name, phaseIteration);
  }

  @Override
  public void step(StepReport report) {
    int iteration = phaseIteration + report.step();
    int ofPhase = stepsPerEpoch == 0 ? 0 : report.step() / stepsPerEpoch;
    if (!inEpoch) {
      epoch = phaseEpoch + ofPhase;
      startEpoch(model.phase(), iteration);
    } else if (!phaseHasSteps) {
      // A resumed phase began before its first report said how far it had come.
      epoch = phaseEpoch + ofPhase;
    }
    phaseHasSteps = true;
    nextIteration = iteration + 1;
    model.done(report, iteration, epoch);
    tell(listener -> listener.iterationDone(model, iteration, epoch));
    int done = report.step() + 1;
    if (stepsPerEpoch > 0 && done % stepsPerEpoch == 0) {
      endEpoch();
      // Now, since the next event comes when its first step is over.
      if (done < phaseSteps) {
        startEpoch(model.phase(), iteration + 1);
      }
    }
  }

  @Override
  public void phaseEnd() {
    if (inEpoch) {
      endEpoch();
    }
    if (phaseHasSteps) {
      phaseIteration = nextIteration;
      phaseHasSteps = false;
    }
    phaseSteps = 0;
    phaseEpoch = epoch;
  }

  private void startEpoch(String phase, int iteration) {
    inEpoch = true;
    model.begin(phase, iteration, epoch);
    tell(listener -> listener.onEpochStart(model));
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
