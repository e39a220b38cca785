package org.lethe.engine;

import java.nio.file.Path;
import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.function.Consumer;
import org.lethe.Hashes;
import org.lethe.UserException;
import org.lethe.checkpoint.CheckpointStore;
import org.lethe.checkpoint.TrainingCheckpoints;
import org.lethe.data.Example;
import org.lethe.data.Pairing;
import org.lethe.data.Refusals;
import org.lethe.method.Method;
import org.lethe.model.LoraConfig;
import org.lethe.model.Model;
import org.lethe.model.OptimizerConfig;
import org.lethe.run.Version;
import org.lethe.train.BatchSource;
import org.lethe.train.Every;
import org.lethe.train.FineTuneBatches;
import org.lethe.train.ReferenceCache;
import org.lethe.train.Schedule;
import org.lethe.train.Step;
import org.lethe.train.StepReport;
import org.lethe.train.StopRule;
import org.lethe.train.TrainSettings;
import org.lethe.train.Trainer;
import org.lethe.train.TrainingLoop;
import org.lethe.train.Turns;
import org.lethe.train.UnlearnBatches;

/**
 * Says what a training shall do; {@link #build} takes its memory. One thread at a time.
 *
 * <p>Equal answers to everything but listeners and checkpoints give equal bits, however the steps
 * are driven and whatever else the engine does in between.
 */
public final class TrainingBuilder {
  private final LanguageModel owner;
  private final String task;
  private final Method method;
  private final List<Example> forget;
  private final List<Example> retain;
  private TrainSettings settings = TrainSettings.of(100, 1e-4, Schedule.LINEAR, 0);
  private TrainingLoop.Plan plan = TrainingLoop.Plan.STEPS_ONLY;
  private Map<String, List<Example>> judged = Map.of();
  private int maxNewTokens = 64;
  private long seed = 1;
  private int batchSize = 4;
  private Pairing.Kind pairing = Pairing.Kind.FRESH;
  private Turns turns = Turns.JOINT;
  private List<String> refusals = Refusals.lines();
  private LoraConfig adapter = LoraConfig.all(8, 16);
  private boolean weights;
  private Optional<Path> reference = Optional.empty();
  private Optional<CheckpointStore> store = Optional.empty();
  private Path checkpoints;
  private OptimizerConfig optimizer = OptimizerConfig.DEFAULT;
  private boolean resume;
  private final List<TrainingListener> listeners = new ArrayList<>();

  TrainingBuilder(
      LanguageModel owner, String task, Method method, List<Example> forget, List<Example> retain) {
    this.owner = owner;
    this.task = task;
    this.method = method;
    this.forget = List.copyOf(forget);
    this.retain = List.copyOf(retain);
  }

  /** Steps, learning rate and optimizer; 100 steps falling from 1e-4 where nothing is said. */
  public TrainingBuilder settings(TrainSettings value) {
    settings = value;
    return this;
  }

  /** Of data order, pairing and fresh adapters; 1 where nothing is said. */
  public TrainingBuilder seed(long value) {
    seed = value;
    return this;
  }

  /** Pairs (or rows) of a step, at least 1; 4 where nothing is said. */
  public TrainingBuilder batchSize(int value) {
    if (value < 1) {
      throw new UserException("a batch of " + value + " rows is none; give at least 1");
    }
    batchSize = value;
    return this;
  }

  /** Which retain row goes with a forget row; drawn anew each epoch where nothing is said. */
  public TrainingBuilder pairing(Pairing.Kind value) {
    pairing = value;
    return this;
  }

  /** Forget and retain rows in turns; together where nothing is said. */
  public TrainingBuilder turns(Turns value) {
    turns = value;
    return this;
  }

  /** What methods that teach a refusal teach; the built-in lines where nothing is said. */
  public TrainingBuilder refusals(List<String> lines) {
    refusals = List.copyOf(lines);
    return this;
  }

  /** Fresh adapters, for a model that carries none; rank 8 on all seven projections by default. */
  public TrainingBuilder adapter(LoraConfig value) {
    adapter = value;
    return this;
  }

  /** Trains all weights instead of adapters; for methods without a reference model. */
  public TrainingBuilder allWeights() {
    weights = true;
    return this;
  }

  /** What the optimizer keeps of each parameter; all in fp32 where nothing is said. */
  public TrainingBuilder optimizer(OptimizerConfig value) {
    optimizer = value;
    return this;
  }

  /**
   * Keeps what the reference model says of the sequences in files of this directory, computed once;
   * without, the reference runs along in every batch.
   */
  public TrainingBuilder referenceCache(Path directory) {
    reference = Optional.of(directory);
    return this;
  }

  /**
   * Judges these sets every so often, and ends the training when a rule holds.
   *
   * @param every steps or epochs; not minutes, since rules may end the training then
   */
  public TrainingBuilder evaluate(Map<String, List<Example>> sets, Every every) {
    if (every.unit() == Every.Unit.MINUTE) {
      throw new UserException(
          "when a model is judged must not depend on the clock; count steps or epochs");
    }
    judged = new LinkedHashMap<>(sets);
    plan = new TrainingLoop.Plan(every, plan.checkpoint(), plan.rules());
    return this;
  }

  /** Tokens of an answer that an evaluation generates; 64 where nothing is said. */
  public TrainingBuilder maxNewTokens(int value) {
    maxNewTokens = value;
    return this;
  }

  /** Ends the training when one of these holds. */
  public TrainingBuilder stopWhen(List<StopRule> rules) {
    plan = new TrainingLoop.Plan(plan.evaluate(), plan.checkpoint(), rules);
    return this;
  }

  /**
   * Writes checkpoints: every so often, at the end, and when the training is cancelled.
   *
   * @param directory made with the first one; holds none of another training
   * @param keep how many stay, at least 1
   */
  public TrainingBuilder checkpoints(Path directory, Every every, int keep) {
    checkpoints = directory;
    store = Optional.of(new CheckpointStore(directory, keep));
    plan = new TrainingLoop.Plan(plan.evaluate(), every, plan.rules());
    return this;
  }

  /**
   * Goes on from the newest checkpoint that verifies, as if it had never stopped, to the bit;
   * begins where there is none.
   */
  public TrainingBuilder resume() {
    resume = true;
    return this;
  }

  /** Tells a listener; may be said several times. */
  public TrainingBuilder listener(TrainingListener listener) {
    listeners.add(listener);
    return this;
  }

  /** Tells of every step. */
  public TrainingBuilder onStep(Consumer<StepReport> listener) {
    return listener(
        new TrainingListener() {
          @Override
          public void step(StepReport report) {
            listener.accept(report);
          }
        });
  }

  /**
   * Checks everything and takes the memory of all steps.
   *
   * @throws UserException when sets, method, cadences or a checkpoint do not go together; the model
   *     is as it was, but may carry fresh adapters
   */
  public Training build() {
    return owner.on(own -> buildHere());
  }

  private Training buildHere() {
    Model model = owner.model();
    Step.requireReference(method, weights);
    BatchSource batches = batches();
    plan.evaluate().requireWithin(settings.steps(), batches.stepsPerEpoch(), "evaluate");
    plan.checkpoint().requireWithin(settings.steps(), batches.stepsPerEpoch(), "checkpoints");
    Optional<CheckpointStore.Found> found = store.flatMap(CheckpointStore::newest);
    if (found.isPresent() && !resume) {
      throw new UserException(
          checkpoints
              + ": holds checkpoints; resume() goes on from them, or give another directory");
    }
    if (resume && store.isEmpty()) {
      throw new UserException("resume() needs checkpoints(); say where they are");
    }
    String hash = hash(model);
    found.ifPresent(f -> requireSame(f, hash));
    ReferenceCache cache = cache(model, batches);
    Training training = new Training(owner, listeners, judged, maxNewTokens);
    owner.begin(training);
    try {
      Optional<TrainingCheckpoints> written = store.map(s -> checkpoints(s, hash));
      makeTrainable(model);
      Trainer trainer = new Trainer(model, method, settings.withSeed(seed), batches, cache);
      training.start(trainer, plan, written, found);
    } catch (RuntimeException | Error e) {
      owner.end(training);
      throw e;
    }
    return training;
  }

  private BatchSource batches() {
    return task.equals("finetune")
        ? new FineTuneBatches(retain, owner.encoder(), batchSize, seed)
        : new UnlearnBatches(
            method, forget, retain, refusals, owner.encoder(), batchSize, pairing, turns, seed);
  }

  private ReferenceCache cache(Model model, BatchSource batches) {
    if (reference.isEmpty() || !ReferenceCache.isNeeded(method)) {
      return null;
    }
    ReferenceCache cache = ReferenceCache.open(reference.get(), model);
    cache.fill(model, method, batches.steps(settings.steps()));
    return cache;
  }

  private TrainingCheckpoints checkpoints(CheckpointStore made, String hash) {
    TrainingCheckpoints.Origin origin =
        new TrainingCheckpoints.Origin(
            Version.string(), task, seed, owner.directory().toString(), hash);
    return new TrainingCheckpoints(made, origin, owner.model(), method);
  }

  private void makeTrainable(Model model) {
    if (model.trainable() == null) {
      model.optimizer(optimizer);
      if (model.lora() != null) {
        throw new UserException(
            "this model's adapters were loaded to be used, not to train; load them with"
                + " trains=true");
      }
      if (weights) {
        model.trainWeights();
      } else {
        model.addLora(adapter, seed);
      }
    } else if (model.trainsWeights() != weights) {
      throw new UserException(
          weights
              ? "this model carries adapters; all its weights cannot train below them"
              : "all weights of this model train already; say allWeights(), or load it again");
    } else if (!model.trainable().config().equals(optimizer)) {
      throw new UserException(
          "this model trains already with an optimizer of "
              + model.trainable().config()
              + "; say the same, or load it again");
    }
    // The optimizer of a training before this one is none of its business.
    model.trainable().resetOptimizer();
  }

  private void requireSame(CheckpointStore.Found found, String hash) {
    if (!found.manifest().configSha256().equals(hash)) {
      throw new UserException(
          found.path()
              + ": was made by a training with other rows or settings, so this one would not go on"
              + " as that began; give the same, or another directory");
    }
  }

  /** A hash of everything that determines the training but its weights and kernels. */
  private String hash(Model model) {
    LoraConfig shape = model.lora() == null ? adapter : model.lora().config();
    return Hashes.sha256(
        String.join(
            "\n",
            task,
            method.toString(),
            settings.toString(),
            plan.evaluate().toString(),
            plan.rules().toString(),
            judged.toString(),
            Integer.toString(maxNewTokens),
            Long.toString(seed),
            Integer.toString(batchSize),
            pairing.name(),
            turns.toString(),
            refusals.toString(),
            weights ? "weights" : shape.toString(),
            optimizer.toString(),
            Boolean.toString(reference.isPresent()),
            model.config().toString(),
            forget.toString(),
            retain.toString()));
  }
}
