package org.lethe.run;

import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Map;
import java.util.Optional;
import org.lethe.EnvironmentException;
import org.lethe.StoppedException;
import org.lethe.checkpoint.CheckpointStore;
import org.lethe.checkpoint.TrainingCheckpoints;
import org.lethe.config.RunConfig;
import org.lethe.evaluate.Evaluation;
import org.lethe.method.Method;
import org.lethe.train.BatchSource;
import org.lethe.train.PoolBatches;
import org.lethe.train.ReferenceCache;
import org.lethe.train.RepeatedBatches;
import org.lethe.train.Sharding;
import org.lethe.train.StepFit;
import org.lethe.train.StepReport;
import org.lethe.train.StopRequest;
import org.lethe.train.TrainSettings;
import org.lethe.train.Trainer;
import org.lethe.train.TrainingLoop;
import org.slf4j.Logger;
import org.slf4j.LoggerFactory;

/** The training of a run: steps, evaluations and checkpoints into its folder, to the end. */
final class TrainingRun implements TrainingLoop.Hooks {
  private static final Logger LOG = LoggerFactory.getLogger(TrainingRun.class);
  private static final String STOP_FILE = "stop";

  private final RunConfig config;
  private final LoadedModel loaded;
  private final RunFolder folder;
  private final RunListener listener;
  private final StopRequest stop;
  private final TrainingCheckpoints checkpoints;
  private Trainer trainer;
  private TrainingLoop loop;

  TrainingRun(
      RunConfig config,
      LoadedModel loaded,
      RunFolder folder,
      TrainingCheckpoints checkpoints,
      RunListener listener,
      StopRequest stop) {
    this.config = config;
    this.loaded = loaded;
    this.folder = folder;
    this.checkpoints = checkpoints;
    this.listener = listener;
    this.stop = stop;
  }

  /** The batches as the configuration repeats them. */
  static BatchSource batches(RunConfig config, BatchSource source) {
    return config.train().stepsPerBatch() == 1
        ? source
        : new RepeatedBatches(source, config.train().stepsPerBatch());
  }

  /**
   * Trains what the model has made trainable.
   *
   * @param resumed the checkpoint to go on from, when there is one
   * @throws StoppedException when it was asked to stop and has
   */
  TrainingLoop.Outcome run(
      String name,
      Method method,
      TrainSettings settings,
      BatchSource batches,
      ReferenceCache reference,
      Optional<CheckpointStore.Found> resumed) {
    TrainingLoop.Plan plan =
        Settings.plan(config, method, settings.steps(), batches.stepsPerEpoch());
    Sharding sharding =
        config.train().shards() == 1 ? Sharding.none() : Sharding.local(config.train().shards());
    boolean samples = batches instanceof PoolBatches;
    TrainSettings kept = settings.with(EvaluationRoom.beside(config, loaded, samples, settings));
    try (Trainer made = new Trainer(loaded.model(), method, kept, batches, reference, sharding)) {
      trainer = made;
      if (settings.memory().budget() > 0) {
        listener.note(fitted(made.fit(), loaded.model().config().layers()));
        loaded.takesScratch(config, made.scratch());
      }
      loop = new TrainingLoop(made, plan, this);
      resumed.ifPresent(found -> checkpoints.restore(found, made, loop));
      // Nothing to show of a run that only its evaluation was missing of.
      listener.phase(name, Math.max(1, settings.steps() - made.done()));
      TrainingLoop.Outcome outcome = stop.watchedBy(loop::run);
      listener.phaseEnd();
      return judge(outcome);
    }
  }

  private static String fitted(StepFit fit, int layers) {
    return "memory.budget: pieces of at most "
        + fit.piece()
        + " tokens, "
        + fit.policy().recomputed()
        + " of "
        + layers
        + " layers computed again, "
        + fit.policy().offloaded()
        + " kept on the host";
  }

  private TrainingLoop.Outcome judge(TrainingLoop.Outcome outcome) {
    switch (outcome.end()) {
      case COMPLETE -> LOG.info("{}: {} steps done", folder.path(), outcome.steps());
      case RULE ->
          listener.note("ended after step " + outcome.steps() + ", since " + outcome.reason());
      case REQUESTED ->
          throw new StoppedException(
              outcome.steps(),
              "stopped after step "
                  + outcome.steps()
                  + " by "
                  + outcome.reason()
                  + "; a checkpoint is written, go on with: lethe resume "
                  + config.output());
    }
    return outcome;
  }

  @Override
  public void step(StepReport report) {
    folder.step(report, loaded.backend().allocatedBytes());
    listener.step(report);
  }

  @Override
  public Map<String, Double> evaluate(int done) {
    Evaluation evaluation = Evaluate.run(config, loaded, true, listener).evaluation();
    folder.evaluation(done, evaluation);
    listener.evaluated(done, evaluation);
    return evaluation.byName();
  }

  @Override
  public void checkpoint(int done) {
    try {
      Path written = checkpoints.write(trainer, loop, folder.metrics());
      listener.checkpoint(done, written);
      LOG.info("checkpoint {}", written);
    } catch (EnvironmentException e) {
      // The run is worth more than one checkpoint of it; those before are whole. A run that was
      // asked to stop has nothing else to save, and must not say it did.
      if (stopRequested().isPresent()) {
        throw e;
      }
      listener.note("no checkpoint after step " + done + ": " + e.getMessage());
    }
  }

  @Override
  public Optional<String> stopRequested() {
    Path file = folder.resolve(STOP_FILE);
    if (Files.exists(file)) {
      stop.request("the file " + file);
      try {
        // It has been heard; left there, it would stop the resumed run, too.
        Files.delete(file);
      } catch (IOException e) {
        throw new EnvironmentException(file + ": cannot be deleted (" + e + ")", e);
      }
    }
    return stop.reason();
  }
}
