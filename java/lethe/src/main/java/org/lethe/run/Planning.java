package org.lethe.run;

import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.OptionalLong;
import java.util.function.UnaryOperator;
import org.lethe.EnvironmentException;
import org.lethe.UserException;
import org.lethe.checkpoint.ModelDirectory;
import org.lethe.config.RunConfig;
import org.lethe.kernels.Backend;
import org.lethe.kernels.Dtype;
import org.lethe.kernels.Ops;
import org.lethe.method.Method;
import org.lethe.method.Methods;
import org.lethe.model.BaseStorage;
import org.lethe.model.Head;
import org.lethe.model.LoraConfig;
import org.lethe.model.ModelConfig;
import org.lethe.model.OptimizerConfig;
import org.lethe.model.SpareRule;
import org.lethe.model.WeightPlacement;
import org.lethe.train.DeviceCosts;
import org.lethe.train.MemorySettings;
import org.lethe.train.Parity;
import org.lethe.train.StepFit;
import org.lethe.train.StepSequence;
import org.lethe.train.TrainSettings;

/** Says what a configured training would take of its device, and what would make it fit. */
public final class Planning {
  private static final String CUDA = "cuda";
  private static final OptimizerConfig.Moments EIGHT_BIT = OptimizerConfig.Moments.EIGHT_BIT;

  private Planning() {}

  /**
   * Plans a training; loads no weights.
   *
   * @param shape one of {@link Shapes#names}; empty: the configured model's
   * @param task finetune or unlearn
   * @param rowTokens tokens of the longest row
   */
  public static MemoryForecast plan(
      RunConfig config, Optional<String> shape, Task task, int rowTokens) {
    ModelConfig model = model(config, shape);
    if (rowTokens < 4 || rowTokens > model.contextLength()) {
      throw new UserException(
          "--row-tokens is " + rowTokens + ", must be from 4 to " + model.contextLength());
    }
    if (!config.adapters().isEmpty() || !config.views().isEmpty()) {
      throw new UserException(
          "adapters and views add to the memory of a run and are not planned for; plan without"
              + " them, and add their files' sizes");
    }
    boolean cuda = config.device().startsWith(CUDA);
    try (Backend backend = Backend.open(config.device(), 1)) {
      Ops ops = new Ops(backend, dtype(config));
      Wants wants = new Wants(Head.workspace(ops), SpareRule.of(ops));
      return forecast(
          config, shape, training(config, model, task, rowTokens, wants), backend.memory());
    } catch (EnvironmentException e) {
      if (!cuda) {
        throw e;
      }
      // A plan for another machine's device: only its memory is not known.
      Wants wants =
          new Wants(
              Head.cudaWorkspace(dtype(config)), SpareRule.cuda(System.getenv("LETHE_LORA_FORM")));
      return forecast(config, shape, training(config, model, task, rowTokens, wants), null);
    }
  }

  /** What a device wants of memory, as it alone knows. */
  private record Wants(Head.Workspace workspace, SpareRule spare) {}

  private static ModelConfig model(RunConfig config, Optional<String> shape) {
    if (shape.isPresent() == config.model().isPresent()) {
      throw new UserException(
          shape.isPresent()
              ? "--shape and model exclude each other; give one of them"
              : "there is nothing to plan for; give model=DIR, or --shape NAME, of "
                  + String.join(", ", Shapes.names()));
    }
    ModelConfig model =
        shape
            .map(Shapes::of)
            .orElseGet(() -> ModelDirectory.config(LoadedModel.modelDirectory(config)).model());
    return model.withContextLength(LoadedModel.contextLength(config, model.contextLength()));
  }

  private static Dtype dtype(RunConfig config) {
    return config.dtype() == RunConfig.Dtype.BF16 ? Dtype.BF16 : Dtype.F32;
  }

  private static PlannedTraining training(
      RunConfig config, ModelConfig model, Task task, int rowTokens, Wants wants) {
    Settings.requireTrainable(config);
    Settings.requireOptimizer(config, config.train().fullParameters());
    Method method = task == Task.FINETUNE ? Methods.fineTuning() : Settings.method(config.method());
    List<StepSequence> step =
        Bench.sequences(method, model.vocabularySize(), config.train().batchSize(), rowTokens);
    TrainSettings settings =
        Settings.train(config.train(), config.train().batchSize())
            .with(Parity.NONE)
            .with(Settings.memory(config.memory()));
    boolean host = !config.device().startsWith(CUDA);
    WeightPlacement weights = LoadedModel.placement(config);
    weights.requirePossible(model, host);
    LoraConfig lora = config.train().fullParameters() ? null : FineTune.loraConfig(config, model);
    return new PlannedTraining(
        model,
        dtype(config),
        weights,
        lora,
        Settings.optimizer(config.train()),
        method,
        settings,
        step,
        wants.workspace(),
        wants.spare(),
        DeviceCosts.of(host));
  }

  private static MemoryForecast forecast(
      RunConfig config, Optional<String> shape, PlannedTraining training, Backend.Memory memory) {
    long budget = config.memory().budgetBytes();
    OptionalLong available =
        budget > 0
            ? OptionalLong.of(budget)
            : memory == null ? OptionalLong.empty() : OptionalLong.of(memory.total());
    StepFit fit =
        budget > 0 ? training.fit(budget).orElseGet(() -> training.cut(true)) : training.cut(false);
    Map<String, Long> parts = parts(training, fit);
    long peak = parts.values().stream().mapToLong(Long::longValue).sum();
    boolean fits = available.isEmpty() || peak <= available.getAsLong();
    return new MemoryForecast(
        shape.orElseGet(() -> LoadedModel.modelDirectory(config).toString()),
        described(training),
        config.device(),
        parts,
        fit.piece(),
        fit.limit(),
        fit.policy().recomputed(),
        fit.policy().offloaded(),
        training.model().layers(),
        available,
        budget > 0 ? "memory.budget" : memory == null ? "" : "the device",
        fits ? List.of() : remedies(training, available.getAsLong()));
  }

  private static Map<String, Long> parts(PlannedTraining training, StepFit fit) {
    Map<String, Long> parts = new LinkedHashMap<>(training.fixed());
    parts.put("activations", training.memory().activations(fit.piece(), fit.policy()));
    parts.put("head", training.memory().head(fit.piece()));
    return parts;
  }

  private static String described(PlannedTraining training) {
    BaseStorage linears = training.weights().linears();
    String what =
        training.lora() == null ? "all weights" : "adapters of rank " + training.lora().rank();
    return training.method().name()
        + ", "
        + what
        + ", "
        + (training.dtype() == Dtype.BF16 ? "bf16" : "fp32")
        + (linears == BaseStorage.PLAIN ? "" : ", linears in " + linears)
        + (training.weights().embeddingOnHost() ? ", the embedding on the host" : "");
  }

  /** Settings that make it fit: one by one, and when none does, one on top of the other. */
  private static List<String> remedies(PlannedTraining training, long available) {
    List<String> found = new ArrayList<>();
    if (training.fit(available).isPresent()) {
      // The budget alone makes pieces smaller and computes layers again.
      found.add("memory.budget=" + available / 1_000_000 + "MB");
    }
    List<Change> changes = changes(training);
    for (Change change : changes) {
      if (change.on(training).fit(available).isPresent()) {
        found.add(change.setting());
      }
    }
    List<String> together = new ArrayList<>();
    PlannedTraining reduced = training;
    for (int i = 0; i < changes.size() && found.isEmpty(); i++) {
      reduced = changes.get(i).on(reduced);
      together.add(changes.get(i).setting());
      if (reduced.fit(available).isPresent()) {
        found.add(String.join(" ", together));
      }
    }
    if (found.isEmpty()) {
      long least = parts(reduced, reduced.cut(true)).values().stream().mapToLong(v -> v).sum();
      together.add("memory.budget=" + (least / 1_000_000 + 1) + "MB");
      found.add(String.join(" ", together) + ", where there is so much, or a smaller model");
    }
    return found;
  }

  /** A setting that takes less. */
  private record Change(String setting, UnaryOperator<PlannedTraining> change) {
    PlannedTraining on(PlannedTraining training) {
      return change.apply(training);
    }
  }

  private static List<Change> changes(PlannedTraining training) {
    List<Change> changes = new ArrayList<>();
    if (training.settings().memory().activations() == MemorySettings.Activations.KEEP) {
      changes.add(
          new Change("memory.activations=auto", t -> t.with(MemorySettings.Activations.AUTO)));
    }
    if (training.dtype() == Dtype.F32) {
      changes.add(new Change("dtype=bf16", t -> t.with(Dtype.BF16)));
    }
    WeightPlacement weights = training.weights();
    if (weights.linears() == BaseStorage.PLAIN && training.lora() != null) {
      changes.add(
          new Change(
              "quantize_base=nf4_double", t -> t.with(t.weights().with(BaseStorage.NF4_DOUBLE))));
    }
    boolean moves = WeightPlacement.embeddingMayMove(training.model(), training.costs().host());
    if (moves && !weights.embeddingOnHost() && training.lora() != null) {
      changes.add(
          new Change("memory.embedding=host", t -> t.with(t.weights().withEmbeddingOnHost())));
    }
    OptimizerConfig o = training.optimizer();
    if (o.moments() == OptimizerConfig.Moments.FP32) {
      changes.add(
          new Change(
              "train.optimizer_state=8bit",
              t ->
                  t.with(
                      new OptimizerConfig(
                          t.optimizer().master(), EIGHT_BIT, t.optimizer().fused()))));
    }
    if (training.lora() == null && !o.fused()) {
      changes.add(
          new Change(
              "train.fused_update=true",
              t ->
                  t.with(
                      new OptimizerConfig(t.optimizer().master(), t.optimizer().moments(), true))));
    }
    if (training.lora() == null) {
      changes.add(new Change("train.full_parameters=false", t -> t.with(LoraConfig.all(8, 16))));
    }
    return changes;
  }
}
