package org.lethe.run;

import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import org.lethe.UserException;
import org.lethe.checkpoint.AdapterDirectory;
import org.lethe.checkpoint.LlamaConfigFile;
import org.lethe.checkpoint.ModelDirectory;
import org.lethe.config.RunConfig;
import org.lethe.config.ScratchSection;
import org.lethe.data.Example;
import org.lethe.data.Tokenizer;
import org.lethe.data.corpus.BpeTrainer;
import org.lethe.kernels.Backend;
import org.lethe.kernels.Ops;
import org.lethe.method.Methods;
import org.lethe.model.LoraConfig;
import org.lethe.model.Model;
import org.lethe.model.ModelConfig;
import org.lethe.model.RandomWeights;
import org.lethe.train.FineTuneBatches;
import org.lethe.train.StepReport;
import org.lethe.train.TrainSettings;
import org.lethe.train.Trainer;

/**
 * Teaches a model rows: a given model, all of it or by adapters, or a new one from random weights.
 */
public final class FineTune {
  private FineTune() {}

  /**
   * Runs the configured fine-tuning and writes {@code model/} (or {@code adapter/}) into the output
   * directory.
   */
  public static List<StepReport> run(RunConfig config, RunListener listener) {
    List<Example> examples = Settings.read(config.data().train());
    if (examples.isEmpty()) {
      throw new UserException("there are no rows to learn; give data.train=[FILE]");
    }
    refuseAdapter(config, "finetune");
    return config.scratch().isPresent()
        ? trainNew(config, config.scratch().get(), examples, listener)
        : trainGiven(config, examples, listener);
  }

  private static List<StepReport> trainGiven(
      RunConfig config, List<Example> examples, RunListener listener) {
    try (LoadedModel loaded = LoadedModel.open(config);
        RunFolder folder = RunFolder.open(config, loaded.backend().description())) {
      return trainAndSave(
          config, loaded, LoadedModel.modelDirectory(config), examples, folder, listener);
    }
  }

  private static List<StepReport> trainNew(
      RunConfig config, ScratchSection scratch, List<Example> examples, RunListener listener) {
    // The backend is closed with the loaded model, or here when making one fails; closing twice is
    // nothing.
    try (Backend backend = LoadedModel.openBackend(config);
        RunFolder folder = RunFolder.open(config, backend.description())) {
      Path tokenizer = tokenizerOf(scratch, examples, folder.resolve("tokenizer"));
      try (LoadedModel loaded = create(config, scratch, backend, tokenizer)) {
        return trainAndSave(config, loaded, tokenizer, examples, folder, listener);
      }
    }
  }

  private static List<StepReport> trainAndSave(
      RunConfig config,
      LoadedModel loaded,
      Path tokenizerDirectory,
      List<Example> examples,
      RunFolder folder,
      RunListener listener) {
    train(config, loaded, examples, folder, listener);
    save(config, loaded, tokenizerDirectory, folder);
    folder.succeed("Fine-tuning", List.of(), List.of());
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
              + " trains fresh adapters on the model as it is; remove adapter");
    }
  }

  private static void train(
      RunConfig config,
      LoadedModel loaded,
      List<Example> examples,
      RunFolder folder,
      RunListener listener) {
    Model model = loaded.model();
    if (trainsAll(config)) {
      model.trainWeights();
    } else {
      model.addLora(loraConfig(config), config.seed());
    }
    FineTuneBatches batches =
        new FineTuneBatches(examples, loaded.encoder(), config.train().batchSize(), config.seed());
    int cut = loaded.encoder().truncatedCount();
    if (cut > 0) {
      listener.note(
          cut + " rows are longer than the context and were cut; raise data.context_length");
    }
    TrainSettings settings = Settings.train(config.train(), batches.stepsPerEpoch());
    try (Trainer trainer = new Trainer(model, Methods.fineTuning(), settings, batches, null)) {
      listener.phase("finetune", settings.steps());
      trainer.run(
          report -> {
            folder.step(report);
            listener.step(report);
          });
      listener.phaseEnd();
    }
  }

  private static void save(
      RunConfig config, LoadedModel loaded, Path tokenizerDirectory, RunFolder folder) {
    if (trainsAll(config)) {
      ModelDirectory.save(
          loaded.model(), loaded.config(), tokenizerDirectory, folder.resolve("model"), false);
    } else {
      AdapterDirectory.save(
          loaded.model().lora(),
          loaded.model(),
          LoadedModel.modelDirectory(config).toString(),
          folder.resolve("adapter"),
          false);
    }
  }

  static LoraConfig loraConfig(RunConfig config) {
    return new LoraConfig(config.lora().rank(), config.lora().alpha(), config.lora().targets());
  }

  private static boolean trainsAll(RunConfig config) {
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
    BpeTrainer.train(texts, scratch.vocabulary()).write(directory);
    return directory;
  }

  private static LoadedModel create(
      RunConfig config, ScratchSection s, Backend backend, Path tokenizerDirectory) {
    Tokenizer tokenizer = Tokenizer.load(tokenizerDirectory);
    ModelConfig sizes =
        new ModelConfig(
            tokenizer.vocabularySize(),
            s.hiddenSize(),
            s.layers(),
            s.heads(),
            s.kvHeads(),
            s.hiddenSize() / s.heads(),
            s.feedForwardSize(),
            1e-5f,
            10_000,
            s.contextLength(),
            true);
    Ops ops = LoadedModel.ops(config, backend);
    Model model = Model.load(ops, sizes, new RandomWeights(sizes, config.seed()));
    LlamaConfigFile file =
        ModelDirectory.config(
            sizes, tokenizer.bosId().orElse(tokenizer.eosId()), tokenizer.eosId());
    return LoadedModel.of(config, backend, model, tokenizer, file);
  }
}
