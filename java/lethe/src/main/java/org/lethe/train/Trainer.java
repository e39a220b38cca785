package org.lethe.train;

import java.util.Map;
import java.util.TreeMap;
import java.util.function.Consumer;
import org.lethe.UserException;
import org.lethe.method.Method;
import org.lethe.method.StepPlace;
import org.lethe.model.Model;

/** Runs the steps of a run in order. Only the backend's thread may call it. */
public final class Trainer implements AutoCloseable {
  private final TrainSettings settings;
  private final BatchSource batches;
  private final Step step;
  private final PlansAhead ahead;
  private final Method method;
  private Map<String, Double> methodState;
  private int done;
  private int skipped;

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
    this(model, method, settings, batches, reference, Sharding.none());
  }

  /** The same, with each step shared out over processes or shards. */
  public Trainer(
      Model model,
      Method method,
      TrainSettings settings,
      BatchSource batches,
      ReferenceCache reference,
      Sharding sharding) {
    this.settings = settings;
    this.batches = batches;
    this.method = method;
    this.methodState = method.initialState();
    this.step =
        StepSizing.fitted(
            model, method, settings, reference, batches.sizes(settings.steps()), sharding);
    this.ahead = new PlansAhead(index -> step.plan(index, batches.step(index)));
  }

  /** How steps are cut and which activations are kept. */
  public StepFit fit() {
    return step.fit();
  }

  /** Bytes of activations and head together. */
  public long bytes() {
    return step.bytes();
  }

  /** Bytes of the engine's scratch memory that the steps take. */
  public long scratch() {
    return step.scratch();
  }

  /** Whether there is another step. */
  public boolean hasNext() {
    return done < settings.steps();
  }

  /** Steps done, from the first of the whole run. */
  public int done() {
    return done;
  }

  /** Steps among them that left the parameters alone, since something was not finite. */
  public int skipped() {
    return skipped;
  }

  /** Steps of an epoch. */
  public int stepsPerEpoch() {
    return batches.stepsPerEpoch();
  }

  /** The numbers of the method's losses that outlive a step, by name: part of a checkpoint. */
  public Map<String, Double> methodState() {
    return Map.copyOf(methodState);
  }

  /** The same for a method without numbers that outlive a step. */
  public void resumeAt(int doneBefore, int skippedBefore) {
    resumeAt(doneBefore, skippedBefore, method.initialState());
  }

  /**
   * Goes on where a checkpoint was made; the model's trainable state must have been restored to it.
   *
   * @param doneBefore steps done
   * @param skippedBefore steps among them that were skipped
   * @param stateBefore the method's state
   */
  public void resumeAt(int doneBefore, int skippedBefore, Map<String, Double> stateBefore) {
    if (!stateBefore.keySet().equals(method.initialState().keySet())) {
      throw new UserException(
          "a checkpoint with the method state "
              + stateBefore.keySet()
              + " is none of "
              + method.name()
              + ", which has "
              + method.initialState().keySet()
              + "; resume with the configuration it was made with");
    }
    if (doneBefore < 0 || doneBefore > settings.steps()) {
      throw new UserException(
          "a checkpoint after step "
              + doneBefore
              + " is none of a run of "
              + settings.steps()
              + " steps; resume with the configuration it was made with");
    }
    done = doneBefore;
    skipped = skippedBefore;
    methodState = new TreeMap<>(stateBefore);
  }

  /** Runs the next step. */
  public StepReport next() {
    double rate =
        settings
            .schedule()
            .rate(settings.learningRate(), done, settings.warmupSteps(), settings.steps());
    batches.prepare(done);
    StepEvent event = new StepEvent();
    event.begin();
    StepPlan plan = ahead.take(done);
    if (batches.knownAhead() && done + 1 < settings.steps()) {
      ahead.begin(done + 1);
    }
    StepReport report;
    try {
      report = step.run(plan, rate, methodState);
    } finally {
      ahead.settle();
    }
    event.end(report);
    if (report.applied()) {
      StepPlace place = new StepPlace(done, batches.stepsPerEpoch());
      methodState = method.nextState(methodState, report.parts(), place);
    }
    done++;
    skipped += report.applied() ? 0 : 1;
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
    ahead.close();
    step.close();
  }
}
