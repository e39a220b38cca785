package org.lethe.run;

import java.util.EnumSet;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.OptionalLong;
import java.util.Set;
import java.util.stream.IntStream;
import java.util.stream.Stream;
import org.lethe.EnvironmentException;
import org.lethe.UserException;
import org.lethe.checkpoint.ModelDirectory;
import org.lethe.config.MethodSection;
import org.lethe.config.RunConfig;
import org.lethe.config.TrainConfig;
import org.lethe.data.Counterpart;
import org.lethe.kernels.Backend;
import org.lethe.kernels.Dtype;
import org.lethe.kernels.Ops;
import org.lethe.method.Method;
import org.lethe.method.Methods;
import org.lethe.method.Role;
import org.lethe.model.BaseStorage;
import org.lethe.model.Head;
import org.lethe.model.ModelConfig;
import org.lethe.model.SpareRule;
import org.lethe.model.WeightPlacement;
import org.lethe.train.DeviceCosts;
import org.lethe.train.Parity;
import org.lethe.train.Step;
import org.lethe.train.StepCount;
import org.lethe.train.StepFit;
import org.lethe.train.StepSequence;
import org.lethe.train.TrainSettings;

/** Says what a configured training would take of its device, and what would make it fit. */
public final class Planning {
  private static final String CUDA = "cuda";

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
    boolean host = !config.device().startsWith(CUDA);
    try (Backend backend = Backend.open(config.device(), 1)) {
      Ops ops = new Ops(backend, dtype(config));
      PlannedTraining.Device device =
          new PlannedTraining.Device(Head.workspace(ops), SpareRule.of(ops), DeviceCosts.of(host));
      return forecast(
          config, shape, training(config, model, task, rowTokens, device), backend.memory());
    } catch (EnvironmentException e) {
      if (host) {
        throw e;
      }
      // A plan for another machine's device: only its memory is not known.
      PlannedTraining.Device device =
          new PlannedTraining.Device(
              Head.cudaWorkspace(dtype(config)),
              SpareRule.cuda(System.getenv("LETHE_LORA_FORM")),
              DeviceCosts.of(false));
      return forecast(config, shape, training(config, model, task, rowTokens, device), null);
    }
  }

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
      RunConfig config,
      ModelConfig model,
      Task task,
      int rowTokens,
      PlannedTraining.Device device) {
    Settings.requireTrainable(config);
    Settings.requireOptimizer(config, config.train().fullParameters());
    Method method = task == Task.FINETUNE ? Methods.fineTuning() : Settings.method(config.method());
    Step.requireReference(method, config.train().fullParameters());
    PlannedAdapters.requireViews(method, config);
    TrainSettings settings =
        Settings.train(config.train(), epochAtMost(config.train()))
            .with(Parity.NONE)
            .with(Settings.memory(config.memory()));
    settings.memory().activations().requirePossible(device.costs().host());
    WeightPlacement weights = LoadedModel.placement(config);
    weights.requirePossible(model, device.costs().host());
    return new PlannedTraining(
        model,
        dtype(config),
        weights,
        PlannedAdapters.of(config, model, task),
        Settings.optimizer(config.train()),
        method,
        config.method().reference() == MethodSection.Reference.CACHED
            && !config.train().fullParameters(),
        device.costs().host() ? 0 : HeadTuning.most(config.train()),
        settings,
        sequences(method, model, config, task, rowTokens),
        Judging.planned(config, task, rowTokens),
        device);
  }

  /** Steps of an epoch, which rows alone tell: as many as there may be, so that all fits in. */
  private static int epochAtMost(TrainConfig train) {
    return Math.max(1, StepCount.MOST / train.epochs());
  }

  /** A step of rows as long as the longest; what a reference reads in their place is as long. */
  private static List<StepSequence> sequences(
      Method method, ModelConfig model, RunConfig config, Task task, int rowTokens) {
    int pairs = config.train().batchSize();
    Set<Role> translated = EnumSet.noneOf(Role.class);
    method.uses().stream()
        .filter(use -> use.sources().counterpart())
        .forEach(use -> translated.add(use.role()));
    return Bench.sequences(method, model.vocabularySize(), pairs, rowTokens).stream()
        .flatMap(s -> task == Task.UNLEARN ? companions(s, config) : Stream.of(s))
        .map(s -> translated.contains(s.role()) ? s.with(sameText(s.tokens().ids())) : s)
        .toList();
  }

  /** As many sequences of its role as a forget row brings; each retain row is a pair of its own. */
  private static Stream<StepSequence> companions(StepSequence s, RunConfig config) {
    boolean retains = s.role() == Role.RETAIN || s.role() == Role.RETAIN_IDK;
    int pairs = retains ? config.data().retainPerForget() : 1;
    int twins = s.role() == Role.FORGET_MISMATCH ? config.data().mismatches() : 1;
    return IntStream.range(0, pairs * twins)
        .mapToObj(i -> s.pair() + i / twins * config.train().batchSize())
        .map(pair -> new StepSequence(s.role(), pair, s.tokens(), s.source()));
  }

  private static Counterpart sameText(int[] ids) {
    return new Counterpart(ids, IntStream.range(0, ids.length).toArray());
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
    // Without a budget nothing is asked whether there is room.
    List<PlannedTraining.Phase> phases = training.phases(fit, budget > 0 ? budget : Long.MAX_VALUE);
    Map<String, Long> together = new LinkedHashMap<>();
    phases.forEach(phase -> together.put(phase.name(), phase.bytes()));
    boolean fits = available.isEmpty() || PlannedTraining.most(phases) <= available.getAsLong();
    return new MemoryForecast(
        shape.orElseGet(() -> LoadedModel.modelDirectory(config).toString()),
        described(training),
        config.device(),
        parts(training, fit, phases),
        together,
        fit.piece(),
        fit.limit(),
        fit.policy().recomputed(),
        fit.policy().offloaded(),
        training.model().layers(),
        available,
        budget > 0 ? "memory.budget" : memory == null ? "" : "the device",
        fits ? List.of() : PlanRemedies.of(config, training, available.getAsLong()));
  }

  private static Map<String, Long> parts(
      PlannedTraining training, StepFit fit, List<PlannedTraining.Phase> phases) {
    Map<String, Long> parts = new LinkedHashMap<>(training.fixed());
    long scratch = training.scratch(fit.piece());
    if (scratch > 0) {
      parts.put("scratch memory of ops", scratch);
    }
    phases.forEach(phase -> parts.putAll(phase.parts()));
    return parts;
  }

  private static String described(PlannedTraining training) {
    BaseStorage linears = training.weights().linears();
    String what =
        training.trainsAdapters()
            ? "adapters of rank " + training.adapters().trained().rank()
            : "all weights";
    int frozen = training.adapters().frozen().size();
    return training.method().name()
        + ", "
        + what
        + (frozen == 0 ? "" : " beside " + frozen + " frozen")
        + ", "
        + (training.dtype() == Dtype.BF16 ? "bf16" : "fp32")
        + (linears == BaseStorage.PLAIN ? "" : ", linears in " + linears)
        + (training.weights().embeddingOnHost() ? ", the embedding on the host" : "");
  }
}
