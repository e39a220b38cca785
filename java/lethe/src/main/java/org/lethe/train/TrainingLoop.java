package org.lethe.train;

import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.function.LongSupplier;

/**
 * Steps, evaluations, checkpoints and the end of a run, in that order after every step. Only the
 * backend's thread may call it.
 *
 * <p>When a checkpoint is written never changes what is computed; when the model is evaluated does
 * not either.
 */
public final class TrainingLoop {
  private static final long NANOS_PER_MINUTE = 60_000_000_000L;

  /**
   * What happens when.
   *
   * @param rules the first that holds ends the run
   */
  public record Plan(Every evaluate, Every checkpoint, List<StopRule> rules) {
    /** Only steps. */
    public static final Plan STEPS_ONLY = new Plan(Every.NEVER, Every.NEVER, List.of());

    public Plan {
      rules = List.copyOf(rules);
    }
  }

  /** What surrounds the steps. */
  public interface Hooks {
    /** A step is done. */
    default void step(StepReport report) {}

    /** Judges the model as it is; answers scores by name, such as {@code forget.probability}. */
    default Map<String, Double> evaluate(int done) {
      return Map.of();
    }

    /** Writes everything that a run needs to go on from here. */
    default void checkpoint(int done) {}

    /** Why the run shall stop now, when it shall. */
    default Optional<String> stopRequested() {
      return Optional.empty();
    }
  }

  /** How a run ended. */
  public enum End {
    /** All steps are done. */
    COMPLETE,
    /** A stopping rule held. */
    RULE,
    /** It was asked to; a checkpoint was written. */
    REQUESTED
  }

  /**
   * The end of a run.
   *
   * @param reason the rule, or who asked; empty when complete
   * @param steps done, from the first of the whole run
   */
  public record Outcome(End end, String reason, int steps) {}

  private final Trainer trainer;
  private final Plan plan;
  private final Hooks hooks;
  private final LongSupplier nanoTime;
  private final Map<String, Integer> streaks = new LinkedHashMap<>();
  private long lastCheckpoint;
  private boolean begun;
  private Outcome outcome;

  /** A loop over the trainer's remaining steps. */
  public TrainingLoop(Trainer trainer, Plan plan, Hooks hooks) {
    this(trainer, plan, hooks, System::nanoTime);
  }

  TrainingLoop(Trainer trainer, Plan plan, Hooks hooks, LongSupplier nanoTime) {
    this.trainer = trainer;
    this.plan = plan;
    this.hooks = hooks;
    this.nanoTime = nanoTime;
    plan.rules().forEach(rule -> streaks.put(rule.text(), 0));
  }

  /** How often in a row each rule has held, by its text: part of a checkpoint. */
  public Map<String, Integer> streaks() {
    return Map.copyOf(streaks);
  }

  /** Goes on from a checkpoint's {@link #streaks}. */
  public void restore(Map<String, Integer> held) {
    streaks.replaceAll((rule, count) -> held.getOrDefault(rule, 0));
  }

  /** Runs to the end. */
  public Outcome run() {
    while (advance()) {
      // Each turn is a step with all that follows it.
    }
    return outcome;
  }

  /**
   * One step with all that follows it, so that whoever owns the thread may do something else
   * between two of them.
   *
   * @return whether there is more to do; when not, {@link #outcome} says how it ended
   */
  public boolean advance() {
    if (outcome == null) {
      outcome = begun ? next() : begin();
    }
    return outcome == null;
  }

  /** How it ended; empty while it has not. */
  public Optional<Outcome> outcome() {
    return Optional.ofNullable(outcome);
  }

  private Outcome begin() {
    begun = true;
    lastCheckpoint = nanoTime.getAsLong();
    Optional<StopRule> before = held();
    return before.isPresent() ? ended(before.get()) : next();
  }

  /** A step, or the end of the run, which is null while there is more to do. */
  private Outcome next() {
    if (!trainer.hasNext()) {
      return complete();
    }
    Optional<String> asked = hooks.stopRequested();
    if (asked.isPresent()) {
      checkpoint();
      return new Outcome(End.REQUESTED, asked.get(), trainer.done());
    }
    StepReport report = trainer.next();
    hooks.step(report);
    Map<String, Double> values = values(report);
    boolean evaluates = plan.evaluate().isDue(trainer.done(), trainer.stepsPerEpoch());
    if (evaluates) {
      values.putAll(hooks.evaluate(trainer.done()));
    }
    count(values, evaluates);
    Optional<StopRule> held = held();
    if (held.isPresent()) {
      atEnd();
      return ended(held.get());
    }
    if (!trainer.hasNext()) {
      return complete();
    }
    if (checkpointIsDue()) {
      checkpoint();
    }
    return null;
  }

  private Outcome ended(StopRule rule) {
    return new Outcome(End.RULE, rule.text(), trainer.done());
  }

  private Outcome complete() {
    atEnd();
    return new Outcome(End.COMPLETE, "", trainer.done());
  }

  private boolean checkpointIsDue() {
    if (plan.checkpoint().unit() == Every.Unit.MINUTE) {
      long passed = nanoTime.getAsLong() - lastCheckpoint;
      return passed >= plan.checkpoint().count() * NANOS_PER_MINUTE;
    }
    return plan.checkpoint().isDue(trainer.done(), trainer.stepsPerEpoch());
  }

  private void checkpoint() {
    hooks.checkpoint(trainer.done());
    lastCheckpoint = nanoTime.getAsLong();
  }

  /** What follows the last step, such as the evaluation, may still fail: nothing is lost then. */
  private void atEnd() {
    if (!plan.checkpoint().equals(Every.NEVER)) {
      checkpoint();
    }
  }

  private void count(Map<String, Double> values, boolean evaluated) {
    for (StopRule rule : plan.rules()) {
      if (evaluated || !rule.needsEvaluation()) {
        streaks.put(rule.text(), rule.holds(values) ? streaks.get(rule.text()) + 1 : 0);
      }
    }
  }

  /** The first rule that has held often enough. */
  private Optional<StopRule> held() {
    return plan.rules().stream().filter(r -> streaks.get(r.text()) >= r.times()).findFirst();
  }

  private Map<String, Double> values(StepReport report) {
    Map<String, Double> values = new LinkedHashMap<>();
    values.put("step", (double) trainer.done());
    values.put("epoch", (double) trainer.done() / trainer.stepsPerEpoch());
    values.put("loss", report.loss());
    values.put("gradient_norm", report.gradientNorm());
    values.put("learning_rate", report.learningRate());
    report.parts().forEach((name, value) -> values.put("loss." + name, value));
    return values;
  }
}
