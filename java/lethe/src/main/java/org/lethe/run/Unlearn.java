package org.lethe.run;

import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import org.lethe.checkpoint.AdapterDirectory;
import org.lethe.checkpoint.CheckpointStore;
import org.lethe.checkpoint.ModelDirectory;
import org.lethe.checkpoint.OutputDirectory;
import org.lethe.checkpoint.TrainingCheckpoints;
import org.lethe.config.DataConfig;
import org.lethe.config.LoraSection;
import org.lethe.config.MethodSection;
import org.lethe.config.RunConfig;
import org.lethe.data.Example;
import org.lethe.evaluate.Evaluation;
import org.lethe.method.Method;
import org.lethe.method.Positions;
import org.lethe.model.Model;
import org.lethe.train.BatchSource;
import org.lethe.train.Companions;
import org.lethe.train.ReferenceCache;
import org.lethe.train.SensitiveTokens;
import org.lethe.train.Step;
import org.lethe.train.StepReport;
import org.lethe.train.StopRequest;
import org.lethe.train.TrainSettings;
import org.lethe.train.UnlearnBatches;

/**
 * Makes a model forget rows and keep others, by adapters (or all weights, where the method needs no
 * reference).
 */
public final class Unlearn {
  /**
   * What a run came to.
   *
   * @param before the model as it was given
   * @param after with what the run trained
   */
  public record Result(List<StepReport> steps, Evaluation before, Evaluation after) {}

  private static final RunIdentity IDENTITY = new RunIdentity(RunIdentity.Task.UNLEARN);

  private Unlearn() {}

  /** Runs it; nobody can ask it to stop. */
  public static Result run(RunConfig config, Evaluation before, RunListener listener) {
    return run(config, before, listener, new StopRequest());
  }

  /**
   * Runs the configured unlearning and writes {@code adapter/} (or {@code model/}), {@code
   * evaluation/} and the report into the output directory.
   *
   * @param before the given model's evaluation when it is known already, else null: it is measured
   * @throws org.lethe.StoppedException when it was asked to stop and has; it can be resumed
   */
  public static Result run(
      RunConfig config, Evaluation before, RunListener listener, StopRequest stop) {
    return run(config, before, listener, stop, Optional.empty());
  }

  /** Goes on with a run that was interrupted. */
  static Result resume(RunConfig config, RunListener listener, StopRequest stop, RunLock lock) {
    return run(config, null, listener, stop, Optional.of(lock));
  }

  private static Result run(
      RunConfig given,
      Evaluation before,
      RunListener listener,
      StopRequest stop,
      Optional<RunLock> resumed) {
    if (given.lora().start() == LoraSection.Start.FRESH) {
      FineTune.refuseAdapter(given, "unlearn");
    }
    Settings.requireTrainable(given);
    Method method = Settings.method(given.method());
    Step.requireReference(method, given.train().fullParameters());
    Settings.requireOptimizer(given, given.train().fullParameters());
    Rows rows = Rows.read(given);
    Optional<Resumption> resumption = Resumption.of(given, resumed, listener);
    try (LoadedModel loaded = LoadedModel.openToTrain(given)) {
      listener.opened(loaded.backend());
      RunConfig config = HeadTuning.settle(given, loaded.model());
      // Before the output directory is touched: it refuses empty sets.
      BatchSource batches = batches(config, method, rows, loaded);
      TrainSettings settings =
          Settings.train(config.train(), batches.stepsPerEpoch())
              .withSeed(config.seed())
              .with(Settings.parity(config.parity(), loaded.tokenizer().eosId()))
              .with(Settings.memory(config.memory()));
      // It refuses rules and cadences that cannot be.
      Settings.plan(config, method, settings.steps(), batches.stepsPerEpoch());
      String backend = loaded.backend().description();
      try (RunFolder folder =
          resumption
              .map(Resumption::reopen)
              .orElseGet(() -> RunFolder.open(config, IDENTITY, backend))) {
        return run(
            new Job(config, method, batches, settings, loaded, folder, listener, stop),
            before,
            resumption.flatMap(Resumption::checkpoint));
      }
    }
  }

  /** What a run forgets and what it keeps. */
  record Rows(List<Example> forget, List<Example> retain) {
    static Rows read(RunConfig config) {
      List<Example> retain = new ArrayList<>(Settings.read(config.data().retain()));
      if (config.data().trainOnGeneral()) {
        retain.addAll(Settings.read(config.data().general()));
      }
      return new Rows(Settings.forget(config.data()), retain);
    }
  }

  /** The batches of a run; refuses empty sets. */
  static BatchSource batches(RunConfig config, Method method, Rows rows, LoadedModel loaded) {
    if (QuarkRun.isMethod(config.method())) {
      return QuarkRun.batches(config, rows, loaded);
    }
    return TrainingRun.batches(
        config,
        new UnlearnBatches(
            method,
            rows.forget(),
            rows.retain(),
            companions(config, method, rows.forget(), loaded),
            loaded.encoder(),
            Settings.batchSize(config.train(), rows.forget().size()),
            Settings.pairing(config.data()),
            Settings.turns(config.train()),
            config.seed()));
  }

  private static Companions companions(
      RunConfig config, Method method, List<Example> forget, LoadedModel loaded) {
    boolean marks = method.uses().stream().anyMatch(u -> u.positions() == Positions.SPANS);
    return new Companions(
        Settings.refusals(config),
        Settings.read(config.data().mismatch()).stream().map(Example::answer).toList(),
        config.data().mismatches(),
        marks && config.data().sensitive() == DataConfig.Sensitive.LOW_PROBABILITY
            ? SensitiveTokens.of(loaded.model(), loaded.encoder(), forget)
            : Map.of(),
        Settings.read(config.data().unseen()),
        config.data().retainPerForget(),
        GenericTargets.of(config, method, forget, loaded));
  }

  /** A run that has everything open. */
  private record Job(
      RunConfig config,
      Method method,
      BatchSource batches,
      TrainSettings settings,
      LoadedModel loaded,
      RunFolder folder,
      RunListener listener,
      StopRequest stop) {}

  private static Result run(
      Job job, Evaluation before, Optional<CheckpointStore.Found> checkpoint) {
    RunConfig config = job.config();
    RunFolder folder = job.folder();
    Model model = job.loaded().model();
    TrainingCheckpoints checkpoints = Checkpoints.of(config, IDENTITY, model, job.method());
    requireRoom(job);
    ReferenceCache reference = reference(job);
    Evaluation given = folder.before(before, () -> given(job));
    if (config.train().fullParameters()) {
      model.trainWeights();
    } else if (config.adapter().isEmpty()) {
      model.addLora(FineTune.loraConfig(config, model.config()), config.seed());
    } else if (model.lora() == null) {
      AdapterDirectory.load(model, config.adapter().get(), true);
    }
    new TrainingRun(config, job.loaded(), folder, checkpoints, job.listener(), job.stop())
        .run(
            "unlearn " + job.method().name(),
            job.method(),
            job.settings(),
            job.batches(),
            reference,
            checkpoint);
    Evaluate.Result after = Evaluate.run(config, job.loaded(), true, job.listener());
    save(config, job.loaded(), folder);
    OutputDirectory.write(folder.resolve("evaluation"), true, 0, out -> Evaluate.write(after, out));
    folder.succeed();
    job.listener().done(job.loaded().backend());
    return new Result(folder.steps(), given, after.evaluation());
  }

  /** What the last evaluation needs is known before the first. */
  private static void requireRoom(Job job) {
    RunConfig config = job.config();
    if (config.memory().budgetBytes() == 0) {
      return;
    }
    Model model = job.loaded().model();
    PlannedAdapters adapters = PlannedAdapters.of(config, model.config(), Task.UNLEARN);
    long coming =
        adapters.trainedBytes(
            model.config(), model.ops().dtype(), Settings.optimizer(config.train()));
    EvaluationRoom.require(config, job.loaded(), adapters.widths(model.config()), coming);
  }

  /** The model as it was given, with the adapter that trains on, when there is one. */
  private static Evaluation given(Job job) {
    RunConfig config = job.config();
    if (config.adapter().isPresent()) {
      AdapterDirectory.load(job.loaded().model(), config.adapter().get(), true);
    }
    return Evaluate.run(config, job.loaded(), config.adapter().isPresent(), job.listener())
        .evaluation();
  }

  private static ReferenceCache reference(Job job) {
    RunConfig config = job.config();
    if (config.method().reference() == MethodSection.Reference.IN_BATCH
        || !ReferenceCache.isNeeded(job.method())
        || config.train().fullParameters()) {
      return null;
    }
    Path directory = config.method().referenceCache().orElse(job.folder().resolve("reference"));
    ReferenceCache cache = ReferenceCache.open(directory, job.loaded().model());
    cache.fill(job.loaded().model(), job.method(), job.batches().steps(job.settings().steps()));
    return cache;
  }

  private static void save(RunConfig config, LoadedModel loaded, RunFolder folder) {
    Path base = LoadedModel.modelDirectory(config);
    if (config.train().fullParameters()) {
      ModelDirectory.save(loaded.model(), loaded.config(), base, folder.resolve("model"), true);
    } else {
      AdapterDirectory.save(
          loaded.model().lora(), loaded.model(), base.toString(), folder.resolve("adapter"), true);
      Export.withStart(config, base.toString(), folder);
    }
  }
}
