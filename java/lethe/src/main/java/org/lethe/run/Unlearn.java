package org.lethe.run;

import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import org.lethe.checkpoint.AdapterDirectory;
import org.lethe.checkpoint.ModelDirectory;
import org.lethe.checkpoint.OutputDirectory;
import org.lethe.config.MethodSection;
import org.lethe.config.RunConfig;
import org.lethe.data.Example;
import org.lethe.evaluate.Evaluation;
import org.lethe.method.Method;
import org.lethe.model.Model;
import org.lethe.report.Table;
import org.lethe.train.ReferenceCache;
import org.lethe.train.Step;
import org.lethe.train.StepReport;
import org.lethe.train.TrainSettings;
import org.lethe.train.Trainer;
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

  private Unlearn() {}

  /**
   * Runs the configured unlearning and writes {@code adapter/} (or {@code model/}), {@code
   * evaluation/} and the report into the output directory.
   *
   * @param before the given model's evaluation when it is known already, else null: it is measured
   */
  public static Result run(RunConfig config, Evaluation before, RunListener listener) {
    FineTune.refuseAdapter(config, "unlearn");
    Method method = Settings.method(config.method());
    Step.requireReference(method, config.train().fullParameters());
    List<Example> forget = Settings.read(config.data().forget());
    List<Example> retain = new ArrayList<>(Settings.read(config.data().retain()));
    if (config.data().trainOnGeneral()) {
      retain.addAll(Settings.read(config.data().general()));
    }
    try (LoadedModel loaded = LoadedModel.open(config)) {
      // Before the output directory is touched: it refuses empty sets.
      UnlearnBatches batches =
          new UnlearnBatches(
              method,
              forget,
              retain,
              Settings.refusals(config),
              loaded.encoder(),
              config.train().batchSize(),
              Settings.pairing(config.data()),
              config.seed());
      try (RunFolder folder = RunFolder.open(config, loaded.backend().description())) {
        return run(config, method, batches, loaded, before, folder, listener);
      }
    }
  }

  private static Result run(
      RunConfig config,
      Method method,
      UnlearnBatches batches,
      LoadedModel loaded,
      Evaluation before,
      RunFolder folder,
      RunListener listener) {
    Model model = loaded.model();
    Evaluation given =
        before != null ? before : Evaluate.run(config, loaded, false, listener).evaluation();
    TrainSettings settings = Settings.train(config.train(), batches.stepsPerEpoch());
    ReferenceCache reference = reference(config, model, method, batches, settings, folder);
    if (config.train().fullParameters()) {
      model.trainWeights();
    } else {
      model.addLora(FineTune.loraConfig(config), config.seed());
    }
    train(model, method, settings, batches, reference, folder, listener);
    Evaluate.Result after = Evaluate.run(config, loaded, true, listener);
    save(config, loaded, folder);
    OutputDirectory.write(
        folder.resolve("evaluation"), false, 0, out -> Evaluate.write(after, out));
    folder.succeed(
        "Unlearning by " + method.name(),
        List.of(comparison(given, after.evaluation())),
        List.of(
            "Forgetting is measured by the listed scores; it is no proof of deletion.",
            "An adapter only hides: whoever has the base model without it has everything it"
                + " knew."));
    return new Result(folder.steps(), given, after.evaluation());
  }

  private static ReferenceCache reference(
      RunConfig config,
      Model model,
      Method method,
      UnlearnBatches batches,
      TrainSettings settings,
      RunFolder folder) {
    if (config.method().reference() == MethodSection.Reference.IN_BATCH
        || !ReferenceCache.isNeeded(method)
        || config.train().fullParameters()) {
      return null;
    }
    ReferenceCache cache =
        ReferenceCache.open(
            config.method().referenceCache().orElse(folder.resolve("reference")), model);
    cache.fill(model, method, batches.steps(settings.steps()));
    return cache;
  }

  private static void train(
      Model model,
      Method method,
      TrainSettings settings,
      UnlearnBatches batches,
      ReferenceCache reference,
      RunFolder folder,
      RunListener listener) {
    try (Trainer trainer = new Trainer(model, method, settings, batches, reference)) {
      listener.phase("unlearn " + method.name(), settings.steps());
      trainer.run(
          report -> {
            folder.step(report);
            listener.step(report);
          });
      listener.phaseEnd();
    }
  }

  private static void save(RunConfig config, LoadedModel loaded, RunFolder folder) {
    Path base = LoadedModel.modelDirectory(config);
    if (config.train().fullParameters()) {
      ModelDirectory.save(loaded.model(), loaded.config(), base, folder.resolve("model"), false);
    } else {
      AdapterDirectory.save(
          loaded.model().lora(), loaded.model(), base.toString(), folder.resolve("adapter"), false);
    }
  }

  private static Table comparison(Evaluation before, Evaluation after) {
    List<List<Table.Cell>> rows = new ArrayList<>();
    after
        .sets()
        .forEach(
            (set, scores) ->
                scores.forEach(
                    (metric, score) ->
                        rows.add(Table.row(set, metric, before.score(set, metric), score))));
    rows.add(Table.row("retain, general", "model utility", before.utility(), after.utility()));
    return new Table("Before and after", List.of("set", "metric", "before", "after"), rows);
  }
}
