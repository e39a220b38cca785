package org.lethe.run;

import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.Optional;
import org.lethe.UserException;
import org.lethe.checkpoint.AdapterDirectory;
import org.lethe.checkpoint.HuggingFaceConfig;
import org.lethe.checkpoint.ModelConfigFile;
import org.lethe.checkpoint.ModelDirectory;
import org.lethe.checkpoint.TrainingCheckpoints;
import org.lethe.config.RunConfig;
import org.lethe.config.ScratchSection;
import org.lethe.data.Example;
import org.lethe.data.Tokenizer;
import org.lethe.data.corpus.BpeTrainer;
import org.lethe.kernels.Backend;
import org.lethe.kernels.Ops;
import org.lethe.method.Method;
import org.lethe.method.Methods;
import org.lethe.model.Lora;
import org.lethe.model.LoraConfig;
import org.lethe.model.Model;
import org.lethe.model.ModelConfig;
import org.lethe.model.RandomWeights;
import org.lethe.train.BatchSource;
import org.lethe.train.FineTuneBatches;
import org.lethe.train.StepReport;
import org.lethe.train.StopRequest;
import org.lethe.train.TrainSettings;

/**
 * Teaches a model rows: a given model, all of it or by adapters, or a new one from random weights.
 */
public final class FineTune {
  private static final RunIdentity IDENTITY = new RunIdentity(RunIdentity.Task.FINETUNE);

  private FineTune() {}

  /** Runs it; nobody can ask it to stop. */
  public static List<StepReport> run(RunConfig config, RunListener listener) {
    return run(config, listener, new StopRequest());
  }

  /**
   * Runs the configured fine-tuning and writes {@code model/} (or {@code adapter/}) into the output
   * directory.
   *
   * @throws org.lethe.StoppedException when it was asked to stop and has; it can be resumed
   */
  public static List<StepReport> run(RunConfig config, RunListener listener, StopRequest stop) {
    return run(config, listener, stop, Optional.empty());
  }

  /** Goes on with a run that was interrupted. */
  static List<StepReport> resume(
      RunConfig config, RunListener listener, StopRequest stop, RunLock lock) {
    return run(config, listener, stop, Optional.of(lock));
  }

  private static List<StepReport> run(
      RunConfig config, RunListener listener, StopRequest stop, Optional<RunLock> resumed) {
    List<Example> examples = Settings.read(config.data().train());
    if (examples.isEmpty()) {
      throw new UserException("there are no rows to learn; give data.train=[FILE]");
    }
    refuseAdapter(config, "finetune");
    Settings.requireTrainable(config);
    Settings.requireOptimizer(config, trainsAll(config));
    Job job = new Job(config, examples, listener, stop, Resumption.of(config, resumed, listener));
    return config.scratch().isPresent() ? trainNew(job, config.scratch().get()) : trainGiven(job);
  }

  /** What a run is given. */
  private record Job(
      RunConfig config,
      List<Example> examples,
      RunListener listener,
      StopRequest stop,
      Optional<Resumption> resumption) {

    Job with(RunConfig settled) {
      return new Job(settled, examples, listener, stop, resumption);
    }

    RunFolder open(Backend backend) {
      return resumption
          .map(Resumption::reopen)
          .orElseGet(() -> RunFolder.open(config, IDENTITY, backend.description()));
    }
  }

  private static List<StepReport> trainGiven(Job job) {
    try (LoadedModel loaded = LoadedModel.openToTrain(job.config())) {
      job.listener().opened(loaded.backend());
      Job settled = job.with(HeadTuning.settle(job.config(), loaded.model()));
      try (RunFolder folder = settled.open(loaded.backend())) {
        return trainAndSave(settled, loaded, LoadedModel.modelDirectory(job.config()), folder);
      }
    }
  }

  private static List<StepReport> trainNew(Job job, ScratchSection scratch) {
    HeadTuning.requireModel(job.config());
    // The backend is closed with the loaded model, or here when making one fails; closing twice is
    // nothing.
    try (Backend backend = LoadedModel.openBackend(job.config());
        RunFolder folder = job.open(backend)) {
      Path tokenizer = tokenizerOf(scratch, job.examples(), folder.resolve("tokenizer"));
      try (LoadedModel loaded = create(job.config(), scratch, backend, tokenizer)) {
        job.listener().opened(loaded.backend());
        HeadTuning.settle(job.config(), loaded.model());
        return trainAndSave(job, loaded, tokenizer, folder);
      }
    }
  }

  private static List<StepReport> trainAndSave(
      Job job, LoadedModel loaded, Path tokenizerDirectory, RunFolder folder) {
    train(job, loaded, folder);
    save(job.config(), loaded, tokenizerDirectory, folder);
    folder.succeed();
    job.listener().done(loaded.backend());
    return folder.steps();
  }

  /** Training begins with fresh adapters; one that is given would be ignored. */
  static void refuseAdapter(RunConfig config, String verb) {
    if (config.adapter().isPresent()) {
      throw new UserException(
          "adapter is "
              + config.adapter().get()
              + ", but "
              + verb
              + " trains fresh adapters on the model as it is; remove adapter"
              + (verb.equals("unlearn") ? ", or train it on by lora.start=continue" : ""));
    }
  }

  private static void train(Job job, LoadedModel loaded, RunFolder folder) {
    RunConfig config = job.config();
    Model model = loaded.model();
    Method method = Methods.fineTuning();
    TrainingCheckpoints checkpoints = Checkpoints.of(config, IDENTITY, model, method);
    if (trainsAll(config)) {
      model.trainWeights();
    } else {
      model.addLora(loraConfig(config, model.config()), config.seed());
    }
    BatchSource batches =
        TrainingRun.batches(
            config,
            new FineTuneBatches(
                job.examples(), loaded.encoder(), config.train().batchSize(), config.seed()));
    int cut = loaded.encoder().truncatedCount();
    if (cut > 0) {
      job.listener()
          .note(cut + " rows are longer than the context and were cut; raise data.context_length");
    }
    TrainSettings settings =
        Settings.train(config.train(), batches.stepsPerEpoch())
            .withSeed(config.seed())
            .with(Settings.memory(config.memory()));
    new TrainingRun(config, loaded, folder, checkpoints, job.listener(), job.stop())
        .run(
            "finetune",
            method,
            settings,
            batches,
            null,
            job.resumption().flatMap(Resumption::checkpoint));
  }

  private static void save(
      RunConfig config, LoadedModel loaded, Path tokenizerDirectory, RunFolder folder) {
    if (trainsAll(config)) {
      ModelDirectory.save(
          loaded.model(), loaded.config(), tokenizerDirectory, folder.resolve("model"), true);
    } else {
      AdapterDirectory.save(
          loaded.model().lora(),
          loaded.model(),
          LoadedModel.modelDirectory(config).toString(),
          folder.resolve("adapter"),
          true);
      Export.withStart(config, LoadedModel.modelDirectory(config).toString(), folder);
    }
  }

  /** The adapters that the configuration asks for, held to a model of these sizes. */
  static LoraConfig loraConfig(RunConfig config, ModelConfig model) {
    LoraConfig lora = Settings.lora(config.lora());
    lora.requireAllUsed(Lora.modules(model));
    return lora;
  }

  static boolean trainsAll(RunConfig config) {
    return config.scratch().isPresent() || config.train().fullParameters();
  }

  private static Path tokenizerOf(ScratchSection scratch, List<Example> examples, Path directory) {
    if (scratch.tokenizer().isPresent()) {
      return scratch.tokenizer().get();
    }
    List<String> texts = new ArrayList<>();
    for (Example e : examples) {
      texts.add(e.question());
      texts.add(e.answer());
    }
    if (!Files.exists(directory)) {
      BpeTrainer.train(texts, scratch.vocabulary()).write(directory);
    }
    return directory;
  }

  /** The sizes of a new model. */
  static ModelConfig sizes(ScratchSection s, int vocabulary) {
    return ModelConfig.llama(
        new ModelConfig.Sizes(
            vocabulary,
            s.hiddenSize(),
            s.layers(),
            s.heads(),
            s.kvHeads(),
            s.hiddenSize() / s.heads(),
            s.feedForwardSize(),
            s.contextLength()),
        1e-5f,
        10_000,
        true);
  }

  private static LoadedModel create(
      RunConfig config, ScratchSection s, Backend backend, Path tokenizerDirectory) {
    Tokenizer tokenizer = Tokenizer.load(tokenizerDirectory);
    ModelConfig sizes = sizes(s, tokenizer.vocabularySize());
    Ops ops = LoadedModel.ops(config, backend);
    LoadingRoom.require(config, ops, sizes, List.of());
    Model model = Model.load(ops, sizes, new RandomWeights(sizes, config.seed()));
    ModelConfigFile file =
        HuggingFaceConfig.ofLlama(
            sizes, tokenizer.bosId().orElse(tokenizer.eosId()), tokenizer.eosId());
    return LoadedModel.of(config, backend, model, tokenizer, file);
  }
}
