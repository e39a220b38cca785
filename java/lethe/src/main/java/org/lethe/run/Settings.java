package org.lethe.run;

import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.LinkedHashSet;
import java.util.List;
import java.util.Locale;
import java.util.Map;
import java.util.Optional;
import java.util.OptionalDouble;
import java.util.Set;
import org.lethe.UserException;
import org.lethe.config.Chunk;
import org.lethe.config.DataConfig;
import org.lethe.config.LoraSection;
import org.lethe.config.MemorySection;
import org.lethe.config.MethodSection;
import org.lethe.config.OptionValue;
import org.lethe.config.ParitySection;
import org.lethe.config.RunConfig;
import org.lethe.config.TrainConfig;
import org.lethe.data.Example;
import org.lethe.data.Jsonl;
import org.lethe.data.Pairing;
import org.lethe.data.Refusals;
import org.lethe.evaluate.SetObservations;
import org.lethe.kernels.Dtype;
import org.lethe.method.EntropyDirection;
import org.lethe.method.Method;
import org.lethe.method.MethodConfig;
import org.lethe.method.Methods;
import org.lethe.method.Setting;
import org.lethe.method.Side;
import org.lethe.metric.Definitions;
import org.lethe.metric.MembershipAttack;
import org.lethe.metric.Metric;
import org.lethe.model.LoraConfig;
import org.lethe.model.LoraTargets;
import org.lethe.model.OptimizerConfig;
import org.lethe.model.Trainable;
import org.lethe.train.Every;
import org.lethe.train.FusedSteps;
import org.lethe.train.Graphs;
import org.lethe.train.MemorySettings;
import org.lethe.train.Padding;
import org.lethe.train.Parity;
import org.lethe.train.Schedule;
import org.lethe.train.StepCount;
import org.lethe.train.StopRule;
import org.lethe.train.TrainSettings;
import org.lethe.train.TrainingLoop;
import org.lethe.train.Turns;

/**
 * What a configuration's sections mean to the engine. Enums of both sides have equal names; a test
 * holds that.
 */
final class Settings {
  private Settings() {}

  /**
   * The training settings of a run.
   *
   * @param stepsPerEpoch counts when the configuration says epochs
   */
  static TrainSettings train(TrainConfig c, int stepsPerEpoch) {
    int steps =
        c.steps() > 0
            ? StepCount.ofRun(c.steps(), "train.steps=" + c.steps())
            : StepCount.ofRun(
                (long) c.epochs() * stepsPerEpoch,
                "train.epochs=" + c.epochs() + " of " + stepsPerEpoch + " steps");
    long warmup =
        c.warmupEpochs() > 0 ? Math.round(c.warmupEpochs() * stepsPerEpoch) : c.warmupSteps();
    if (warmup > steps) {
      throw new UserException(
          "the learning rate would rise over "
              + warmup
              + " steps, but the run has "
              + steps
              + (c.steps() > 0
                  ? " (train.steps)"
                  : " (train.epochs=" + c.epochs() + " of " + stepsPerEpoch + " steps)")
              + "; make train.warmup_"
              + (c.warmupEpochs() > 0 ? "epochs" : "steps")
              + " smaller, or train longer");
    }
    return new TrainSettings(
            steps,
            c.learningRate(),
            Schedule.valueOf(c.schedule().name()),
            (int) warmup,
            c.adamBeta1(),
            c.adamBeta2(),
            c.adamEps(),
            c.weightDecay(),
            c.maxGradientNorm(),
            c.tokensPerMicroBatch(),
            TrainSettings.OnNonFinite.valueOf(c.onNonFinite().name()))
        .with(Graphs.valueOf(c.graphs().name()))
        .with(TrainSettings.SharedPrefixes.valueOf(c.sharedPrefixes().name()));
  }

  /** How much memory a training may take. */
  static MemorySettings memory(MemorySection c) {
    return new MemorySettings(
        c.budgetBytes(), MemorySettings.Activations.valueOf(c.activations().name()));
  }

  /**
   * Refuses to train all weights where some are to be kept in 4-bit codes or on the host.
   *
   * @throws UserException naming both keys
   */
  static void requireTrainable(RunConfig c) {
    boolean all = c.train().fullParameters() || c.scratch().isPresent();
    if (all && c.quantizeBase() != RunConfig.QuantizeBase.NONE) {
      throw new UserException(
          "quantize_base is "
              + c.quantizeBase().name().toLowerCase(Locale.ROOT)
              + ", which keeps the linears in 4-bit codes that cannot train, but "
              + (c.scratch().isPresent()
                  ? "scratch trains all weights of a new model; set quantize_base=none"
                  : "train.full_parameters is true; train adapters (train.full_parameters=false),"
                      + " or set quantize_base=none"));
    }
    if (all && c.memory().embedding() == MemorySection.Embedding.HOST) {
      throw new UserException(
          "memory.embedding is host, where the embedding is frozen, but "
              + (c.scratch().isPresent()
                  ? "scratch trains all weights of a new model; set memory.embedding=device"
                  : "train.full_parameters is true; train adapters (train.full_parameters=false),"
                      + " or set memory.embedding=device"));
    }
  }

  /** What the optimizer keeps of each parameter. */
  static OptimizerConfig optimizer(TrainConfig c) {
    return new OptimizerConfig(
        OptimizerConfig.Master.valueOf(c.master().name()),
        OptimizerConfig.Moments.valueOf(c.optimizerState().name()),
        c.fusedUpdate());
  }

  /**
   * Refuses optimizer settings that do not go together, before anything is loaded.
   *
   * @param allWeights whether the run trains them
   */
  static void requireOptimizer(RunConfig c, boolean allWeights) {
    TrainConfig train = c.train();
    Dtype storage = c.dtype() == RunConfig.Dtype.BF16 ? Dtype.BF16 : Dtype.F32;
    Trainable.requireMaster(optimizer(train), storage);
    if (!train.fusedUpdate()) {
      return;
    }
    if (!allWeights) {
      throw new UserException(
          "train.fused_update is for training all weights, but adapters train here; set"
              + " train.full_parameters=true, or train.fused_update=false");
    }
    FusedSteps.requireSettings(
        train.maxGradientNorm(),
        TrainSettings.OnNonFinite.valueOf(train.onNonFinite().name()),
        train.shards(),
        c.parity().microBatchRows());
  }

  /**
   * Quirks of published code.
   *
   * @param endToken pads where nothing else is given
   */
  static Parity parity(ParitySection c, int endToken) {
    int token = c.paddingToken() < 0 ? endToken : c.paddingToken();
    Padding.Kind kind = Padding.Kind.valueOf(c.padding().name());
    int length = kind == Padding.Kind.CLOSER_LOOK ? c.paddedLength() : 0;
    return new Parity(
        c.microBatchRows(),
        kind == Padding.Kind.NONE ? Padding.NONE : new Padding(kind, length, token));
  }

  /** What a run does between its steps. */
  static TrainingLoop.Plan plan(RunConfig c, Method method, int steps, int stepsPerEpoch) {
    Every evaluate = Every.parse(c.evaluate().every(), "evaluate.every");
    if (evaluate.unit() == Every.Unit.MINUTE) {
      throw new UserException(
          "evaluate.every is '"
              + evaluate
              + "': when a model is judged must not depend on the clock, since rules may end the"
              + " run there; write N steps or N epochs");
    }
    Every checkpoint = Every.parse(c.checkpoint().every(), "checkpoint.every");
    evaluate.requireWithin(steps, stepsPerEpoch, "evaluate.every");
    checkpoint.requireWithin(steps, stepsPerEpoch, "checkpoint.every");
    Set<String> scores = scores(c);
    List<StopRule> rules = new ArrayList<>();
    for (String text : c.train().stopWhen()) {
      StopRule rule =
          StopRule.parse(text, scores, Set.copyOf(method.lossNames()), "train.stop_when");
      if (rule.needsEvaluation() && evaluate.equals(Every.NEVER)) {
        throw new UserException(
            "train.stop_when: '"
                + text
                + "' waits for an evaluation, but evaluate.every is never; set evaluate.every, for"
                + " example to 20 steps");
      }
      rules.add(rule);
    }
    return new TrainingLoop.Plan(evaluate, checkpoint, rules);
  }

  /** The names of the scores that an evaluation of the configured sets gives. */
  private static Set<String> scores(RunConfig c) {
    Map<String, List<Path>> sets = new LinkedHashMap<>();
    sets.put(SetObservations.FORGET, c.data().forget());
    sets.put("retain", c.data().retain());
    sets.put("general", c.data().general());
    sets.put(SetObservations.HOLDOUT, c.data().holdout());
    Set<String> names = new LinkedHashSet<>();
    sets.forEach(
        (set, files) -> {
          if (!files.isEmpty()) {
            boolean extracted =
                c.evaluate().extractionN() > 0 && SetObservations.EXTRACTED.contains(set);
            Metric.list(Definitions.LETHE, text -> false).stream()
                .filter(m -> extracted || !m.needs().contains(Metric.Need.EXTRACTION))
                .forEach(m -> names.add(set + "." + m.name()));
          }
        });
    if (!c.data().forget().isEmpty() && !c.data().holdout().isEmpty()) {
      MembershipAttack.list(Definitions.LETHE, c.evaluate().minK())
          .forEach(a -> names.add("membership." + a.name()));
    }
    if (!names.isEmpty()) {
      names.add("utility");
    }
    return names;
  }

  static Turns turns(TrainConfig c) {
    return new Turns(Turns.Unit.valueOf(c.turns().name()), c.forgetTurn(), c.retainTurn());
  }

  static Method method(MethodSection c) {
    return Methods.create(methodConfig(c));
  }

  static MethodConfig methodConfig(MethodSection c) {
    MethodConfig config =
        new MethodConfig(
            c.forget(),
            c.retain(),
            toDouble(c.forgetCoefficient()),
            toDouble(c.retainCoefficient()),
            options(c.forgetOptions()),
            options(c.retainOptions()));
    config = shared(config, Side.FORGET, "beta", "forget_beta", c.forgetBeta());
    config = shared(config, Side.RETAIN, "beta", "retain_beta", c.retainBeta());
    config = shared(config, Side.FORGET, "positions", "forget_positions", c.forgetPositions());
    config = shared(config, Side.RETAIN, "positions", "retain_positions", c.retainPositions());
    boolean chosen = config.forgetOptions().containsKey("direction");
    // The key has a default of its own, which an option may be laid over.
    return chosen ? config : config.withDirection(EntropyDirection.valueOf(c.meDirection().name()));
  }

  private static Map<String, Setting> options(Map<String, OptionValue> given) {
    Map<String, Setting> options = new LinkedHashMap<>();
    given.forEach((name, value) -> options.put(name, new Setting(value.text(), value.where())));
    return options;
  }

  /** A key that stands beside the options, for whichever loss is chosen: many runs share it. */
  private static MethodConfig shared(
      MethodConfig config, Side side, String option, String key, Optional<?> value) {
    Map<String, Setting> options =
        side == Side.FORGET ? config.forgetOptions() : config.retainOptions();
    if (value.isPresent() && options.containsKey(option)) {
      throw new UserException(
          options.get(option).where()
              + ": "
              + side.key()
              + "_options."
              + option
              + " and method."
              + key
              + " are both given; give one of them");
    }
    if (value.isEmpty()) {
      return config;
    }
    String text = value.get().toString().toLowerCase(Locale.ROOT);
    return config.withShared(side, option, Setting.of(text));
  }

  /** The adapters that a run trains, where it does not go on with those it was given. */
  static LoraConfig lora(LoraSection c) {
    boolean all = c.targets().contains(LoraSection.ALL_LINEAR);
    return new LoraConfig(
        c.rank(),
        c.alpha(),
        c.rslora(),
        c.dropout(),
        new LoraTargets(
            all ? List.of() : c.targets(),
            c.targetRegex(),
            c.exclude(),
            Optional.empty(),
            c.layers(),
            List.of()),
        c.rankPattern(),
        c.alphaPattern());
  }

  static Pairing.Kind pairing(DataConfig c) {
    return Pairing.Kind.valueOf(c.pairing().name());
  }

  /** The forget rows, or the configured chunk of them. */
  static List<Example> forget(DataConfig data) {
    List<Example> all = read(data.forget());
    if (data.forgetChunk().isEmpty()) {
      return all;
    }
    Chunk chunk = Chunk.parse(data.forgetChunk().get());
    if (all.size() < chunk.count() && !data.forget().isEmpty()) {
      throw new UserException(
          "data.forget_chunk is "
              + chunk
              + ", but there are only "
              + all.size()
              + " forget rows; make fewer chunks");
    }
    return chunk.of(all);
  }

  /**
   * The rows of an unlearning step.
   *
   * @throws UserException when it must be all of them and is not
   */
  static int batchSize(TrainConfig train, int forgetRows) {
    if (train.fullBatch() && train.batchSize() != forgetRows) {
      throw new UserException(
          "train.full_batch asks for one update an epoch, but train.batch_size is "
              + train.batchSize()
              + " and there are "
              + forgetRows
              + " forget rows; set train.batch_size="
              + forgetRows
              + " (train.tokens_per_micro_batch bounds the memory), or forget in chunks of that"
              + " size");
    }
    return train.batchSize();
  }

  /** All rows of a part's files, one file after the other. */
  static List<Example> read(List<Path> files) {
    List<Example> examples = new ArrayList<>();
    for (Path file : files) {
      examples.addAll(Jsonl.read(file));
    }
    return examples;
  }

  /** The refusals a run teaches. */
  static List<String> refusals(RunConfig config) {
    Optional<Path> file = config.data().refusals();
    if (file.isEmpty()) {
      return Refusals.lines();
    }
    try {
      List<String> lines =
          Files.readAllLines(file.get()).stream()
              .map(String::strip)
              .filter(l -> !l.isEmpty())
              .toList();
      if (lines.isEmpty()) {
        throw new UserException(file.get() + ": holds no refusal; write one a line");
      }
      return lines;
    } catch (IOException e) {
      throw new UserException(
          file.get() + ": cannot be read (" + e + "); give a UTF-8 text file for data.refusals", e);
    }
  }

  private static OptionalDouble toDouble(Optional<Double> value) {
    return value.map(OptionalDouble::of).orElse(OptionalDouble.empty());
  }
}
