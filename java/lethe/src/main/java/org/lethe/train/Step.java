package org.lethe.train;

import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import org.lethe.UserException;
import org.lethe.kernels.Dtype;
import org.lethe.kernels.Ops;
import org.lethe.kernels.Staging;
import org.lethe.method.Method;
import org.lethe.method.MethodStep;
import org.lethe.method.ReferenceUse;
import org.lethe.method.RowStatistics;
import org.lethe.model.ActivationPolicy;
import org.lethe.model.Decoder;
import org.lethe.model.FusedUpdate;
import org.lethe.model.Head;
import org.lethe.model.MemoryPlan;
import org.lethe.model.Model;
import org.lethe.model.Trainable;
import org.lethe.model.View;

/**
 * One training step, top to bottom: batch → forward → head → method → backward → guard → clip →
 * update.
 *
 * <p>A step is a list of sequences with roles. A token budget cuts it into pieces, invisibly:
 * counts and denominators are the whole step's. Memory for the largest piece is taken when the step
 * is made. Only the backend's thread may call it.
 */
public final class Step implements AutoCloseable {
  /** Numbers of a shard that every method has. */
  private static final int FIXED = 4;

  private final Model model;
  private final Method method;
  private final TrainSettings settings;
  private final MicroBatch.Layout layout;
  private final StepPlan.Planner planner;
  private final Trainable trainable;
  private final Sharding sharding;
  private final Sharding.Sum gradientSum;
  private final int budget;
  private final ActivationPolicy policy;
  private final StepMemory memory;
  private final StepGraphs graphs;
  private final Decoder decoder;
  private final Head head;
  private final Staging staging;
  private long scratch;

  /**
   * Takes the memory of the largest piece.
   *
   * @param reference the reference's nll by sequence; null runs the reference model in the same
   *     batch
   * @param largestPiece tokens of the largest piece, from {@link StepSizing#largestPiece}
   */
  public Step(
      Model model,
      Method method,
      TrainSettings settings,
      ReferenceCache reference,
      int largestPiece) {
    this(model, method, settings, reference, largestPiece, Sharding.none());
  }

  /** The same, shared out over processes or shards. */
  public Step(
      Model model,
      Method method,
      TrainSettings settings,
      ReferenceCache reference,
      int largestPiece,
      Sharding sharding) {
    this(
        model,
        method,
        settings,
        reference,
        largestPiece,
        sharding,
        settings.memory().activations().unbounded(model.config().layers()));
  }

  /**
   * Whether graphs will be captured of steps. They work in the engine's scratch memory as it is
   * then: whatever ops a run has besides is to have taken its own before.
   */
  public static boolean capturesGraphs(Model model, TrainSettings settings) {
    return StepGraphs.used(model, settings);
  }

  /** How steps are cut and which activations are kept. */
  public StepFit fit() {
    return new StepFit(settings.tokensPerMicroBatch(), budget, policy, bytes());
  }

  /** The same, with less of the activations kept. */
  Step(
      Model model,
      Method method,
      TrainSettings settings,
      ReferenceCache reference,
      int largestPiece,
      Sharding sharding,
      ActivationPolicy policy) {
    this.model = model;
    this.policy = policy;
    this.method = method;
    this.settings = settings;
    this.layout =
        StepSizing.layout(
            method,
            reference,
            settings,
            model.reference().equals(View.BASE),
            Prefixes.of(settings, model),
            model.config().vocabularySize());
    requireKeys(model, settings);
    this.trainable = model.trainable();
    if (trainable == null) {
      throw new UserException(
          "nothing trains; add adapters to the model, or make its weights train");
    }
    requireReference(method, model.trainsWeights());
    FusedSteps.requireSettings(model, settings, sharding);
    // Names that the model does not have are refused here, and not in the first step.
    method.uses().forEach(use -> model.view(use.view()));
    this.sharding = sharding;
    if (settings.parity().microBatchRows() > 0 && sharding.size() > 1) {
      throw new UserException(
          "parity.micro_batch_rows averages micro-batches of one process, but the step is shared"
              + " out over "
              + sharding.size()
              + "; set train.shards=1, or parity.micro_batch_rows=0");
    }
    this.budget = Math.max(largestPiece, 1);
    this.planner = new StepPlan.Planner(model, method, settings, layout, sharding, budget);
    StepGraphs.require(model, method, settings);
    settings.memory().activations().requirePossible(model.ops().backend().isHost());
    this.memory = StepMemory.of(model, settings, layout::rows);
    int tokens = memory.tokens(budget);
    this.decoder = MemoryPlan.take(() -> new Decoder(model, tokens, policy), this::plan);
    try {
      this.head = MemoryPlan.take(() -> new Head(model, tokens, memory.rows(budget)), this::plan);
    } catch (RuntimeException e) {
      // Others go on with what this step had taken.
      decoder.close();
      throw e;
    }
    this.graphs = new StepGraphs(model, settings, decoder, head);
    // Last, as nothing that fails before gives them back.
    this.gradientSum = sharding.new Sum(trainable);
    this.staging = new Staging(Ops.UPDATE_STATE * Float.BYTES);
  }

  private MemoryPlan plan() {
    long activations = memory.activations(budget, policy);
    long heads = memory.head(budget);
    int half = Math.max(1, budget / 2);
    long halved = memory.bytes(half, policy);
    long again = memory.activations(budget, ActivationPolicy.recompute(model.config().layers()));
    boolean wide = model.ops().dtype() == Dtype.F32;
    long narrower =
        Model.bytes(model.config(), Dtype.F32, model.placement())
            - Model.bytes(model.config(), Dtype.BF16, model.placement());
    return new MemoryPlan()
        .part("activations of " + budget + " tokens", activations)
        .part("head", heads)
        .remedy("train.tokens_per_micro_batch=" + half, activations + heads - halved)
        .remedy("memory.activations=recompute", activations - again)
        .remedy("dtype=bf16", wide ? narrower + activations / 2 : 0)
        .remedy("another device, or device=cpu");
  }

  /**
   * Refuses a method that needs the reference model when there will be none.
   *
   * @param allWeights whether the base weights themselves train
   * @throws UserException when they do and the method compares with them
   */
  public static void requireReference(Method method, boolean allWeights) {
    if (allWeights && method.uses().stream().anyMatch(u -> u.reference() != ReferenceUse.NONE)) {
      throw new UserException(
          method.name()
              + " compares with the reference model, which is the base with its adapters off; train"
              + " adapters (train.full_parameters=false), or choose a method without a reference");
    }
  }

  /** Says what the steps that it was fitted to take of the engine's scratch memory, in bytes. */
  void takes(long bytes) {
    scratch = bytes;
  }

  /** Bytes of the engine's scratch memory that the steps take which it was fitted to. */
  long scratch() {
    return scratch;
  }

  /** How its pieces are launched. */
  StepGraphs graphs() {
    return graphs;
  }

  /** Bytes of activations and head together. */
  public long bytes() {
    return decoder.bytes() + head.bytes();
  }

  /**
   * What the backward pass of a step left in the gradients.
   *
   * @param loss the objective
   * @param parts each loss's own value by name, before its coefficient
   * @param tokens that went through the model, reference twins included
   * @param sharedTokens that did not, since they stand at the beginning of another sequence
   * @param microBatches pieces the step was cut into
   */
  public record Gradients(
      double loss, Map<String, Double> parts, int tokens, int sharedTokens, int microBatches) {}

  /**
   * Runs one step.
   *
   * @param index from 0, for the report and messages
   * @throws UserException when a loss or gradient is not finite and the settings say stop; nothing
   *     was updated
   */
  public StepReport run(int index, List<StepSequence> sequences, double learningRate) {
    return run(index, sequences, learningRate, method.initialState());
  }

  /**
   * Runs one step of an objective that has come so far.
   *
   * @param state of the method's losses
   */
  public StepReport run(
      int index, List<StepSequence> sequences, double learningRate, Map<String, Double> state) {
    return run(plan(index, sequences), learningRate, state);
  }

  /** What there is to know of a step before the model is asked. Any thread may call it. */
  StepPlan plan(int index, List<StepSequence> sequences) {
    return planner.plan(index, sequences);
  }

  /** Runs a step that was planned. */
  StepReport run(StepPlan plan, double learningRate, Map<String, Double> state) {
    int index = plan.index();
    List<StepSequence> sequences = plan.sequences();
    if (trainable.fused() != null) {
      return fused(plan, learningRate, state);
    }
    Gradients g = gradients(plan, state);
    // A loss can be infinite where its gradient is not: ascent on a label of probability 0.
    if (!Double.isFinite(g.loss())) {
      return notFinite("loss", index, g, Double.NaN, learningRate, sequences);
    }
    // The update skips itself, on the device, when one of the gradients is not finite.
    trainable.measure((float) settings.maxGradientNorm());
    trainable.update(settings.adamW(), (float) learningRate, settings.seed());
    if (model.trainsWeights()) {
      model.refreshHeadMean();
    }
    float[] update = updateState();
    float norm = update[Ops.UPDATE_NORM];
    if (update[Ops.UPDATE_FINITE] == 0) {
      return notFinite("gradient", index, g, norm, learningRate, sequences);
    }
    return report(index, g, norm, learningRate, true);
  }

  /**
   * A step whose backward pass updates the weights. With a clip a backward pass ahead measures:
   * then nothing is updated that is not finite. Without, the loss alone is looked at before.
   */
  private StepReport fused(StepPlan plan, double learningRate, Map<String, Double> state) {
    int index = plan.index();
    List<StepSequence> sequences = plan.sequences();
    FusedUpdate.Settings how = FusedSteps.how(settings, learningRate);
    boolean ahead = how.maxNorm() > 0;
    trainable.fused().begin(ahead ? FusedUpdate.Phase.MEASURE : FusedUpdate.Phase.BOTH, how);
    Gradients g = gradients(plan, state);
    if (!Double.isFinite(g.loss())) {
      return notFinite("loss", index, g, Double.NaN, learningRate, sequences);
    }
    float[] update = updateState();
    float norm = update[Ops.UPDATE_NORM];
    if (update[Ops.UPDATE_FINITE] == 0) {
      if (!ahead) {
        throw FusedSteps.halfUpdated(index, sequences);
      }
      return notFinite("gradient", index, g, norm, learningRate, sequences);
    }
    if (ahead) {
      trainable.fused().begin(FusedUpdate.Phase.UPDATE, how);
      gradients(plan, state);
    }
    model.refreshHeadMean();
    return report(index, g, norm, learningRate, true);
  }

  private static StepReport report(
      int index, Gradients g, double norm, double learningRate, boolean applied) {
    return new StepReport(
        index,
        g.loss(),
        g.parts(),
        norm,
        learningRate,
        g.tokens(),
        g.sharedTokens(),
        g.microBatches(),
        applied);
  }

  private float[] updateState() {
    float[] update = new float[Ops.UPDATE_STATE];
    staging.download(trainable.arena().buffer(), trainable.stateOffset(), update, update.length);
    return update;
  }

  /**
   * The forward and the backward pass of step 0 alone: loss, and gradients of all that trains.
   * Nothing is updated.
   */
  public Gradients gradients(List<StepSequence> sequences) {
    return gradients(0, sequences, method.initialState());
  }

  /**
   * The same for an objective that has come so far.
   *
   * @param index of the step, from 0: dropout masks differ from step to step
   */
  public Gradients gradients(int index, List<StepSequence> sequences, Map<String, Double> state) {
    return gradients(plan(index, sequences), state);
  }

  private Gradients gradients(StepPlan plan, Map<String, Double> state) {
    if (plan.groups().size() > 1) {
      return averaged(plan.groups(), state);
    }
    StepPlan.Group group = plan.groups().get(0);
    List<Shard> own = shards(group, state);
    List<Gradients> shards = new ArrayList<>();
    for (Shard shard : own) {
      trainable.zeroGradients();
      shards.add(gradients(shard, 1));
      gradientSum.add(shards.size() - 1, own.size());
    }
    return sharding.size() == 1 ? shards.get(0) : sum(group.sides(), shards);
  }

  /** The mean of groups of a step, each with denominators of its own. */
  private Gradients averaged(List<StepPlan.Group> groups, Map<String, Double> state) {
    trainable.zeroGradients();
    double factor = 1.0 / groups.size();
    double loss = 0;
    Map<String, Double> parts = new LinkedHashMap<>();
    int tokens = 0;
    int shared = 0;
    int pieces = 0;
    for (StepPlan.Group group : groups) {
      Gradients g = gradients(shards(group, state).get(0), factor);
      loss += factor * g.loss();
      g.parts().forEach((name, value) -> parts.merge(name, factor * value, Double::sum));
      tokens += g.tokens();
      shared += g.sharedTokens();
      pieces += g.microBatches();
    }
    return new Gradients(loss, parts, tokens, shared, pieces);
  }

  private List<Shard> shards(StepPlan.Group group, Map<String, Double> state) {
    List<Shard> own = new ArrayList<>();
    for (StepPlan.Share share : group.shards()) {
      boolean empty = share.pieces().isEmpty();
      own.add(
          new Shard(
              share.pieces(),
              empty ? null : group.sides().begin(share.totals(), share.own(), state)));
    }
    if (group.sides().measures()) {
      measure(own, group.sides().sums());
    }
    return own;
  }

  /**
   * A part of a step.
   *
   * @param objective null for a shard without sequences
   */
  private record Shard(List<MicroBatch> pieces, MethodStep objective) {}

  /** A forward pass ahead, for losses whose terms need sums over the whole step. */
  private void measure(List<Shard> own, int sums) {
    List<double[]> ofShards = new ArrayList<>();
    for (Shard shard : own) {
      for (MicroBatch piece : shard.pieces()) {
        RowStatistics statistics = forward(piece);
        shard.objective().measure(statistics, piece.sequences(statistics));
      }
      ofShards.add(shard.pieces().isEmpty() ? new double[sums] : shard.objective().measured());
    }
    double[] ofStep = sharding.sum(ofShards);
    own.stream().filter(s -> s.objective() != null).forEach(s -> s.objective().measured(ofStep));
  }

  private RowStatistics forward(MicroBatch piece) {
    for (int i = 0; i < piece.passes().size(); i++) {
      Passes.Pass pass = piece.passes().get(i);
      int[] sources = piece.headRows().passTokens().get(i);
      head.take(
          decoder.forward(model.view(pass.view()), pass.packed(), sources), piece.headRows(), i);
    }
    return piece.statistics(graphs.forward(piece), model.config().vocabularySize());
  }

  /** What a shard adds to the step, its gradients times a factor. */
  private Gradients gradients(Shard shard, double factor) {
    if (shard.pieces().isEmpty()) {
      return new Gradients(0, Map.of(), 0, 0, 0);
    }
    int tokens = 0;
    int shared = 0;
    for (MicroBatch piece : shard.pieces()) {
      RowStatistics statistics = forward(piece);
      double[] coefficients = shard.objective().add(statistics, piece.sequences(statistics));
      tokens += piece.packed().tokens();
      shared += piece.packed().sharedTokens();
      // A fused update cannot be taken back.
      if (trainable.fused() != null && !Double.isFinite(shard.objective().loss())) {
        continue;
      }
      graphs.backward(piece.ofHead(coefficients, factor));
    }
    MethodStep objective = shard.objective();
    return new Gradients(
        objective.loss(), objective.parts(), tokens, shared, shard.pieces().size());
  }

  private Gradients sum(Method sides, List<Gradients> shards) {
    List<String> names = sides.lossNames();
    List<double[]> rows = new ArrayList<>();
    for (Gradients g : shards) {
      double[] row = new double[names.size() + FIXED];
      row[0] = g.loss();
      row[1] = g.tokens();
      row[2] = g.sharedTokens();
      row[3] = g.microBatches();
      for (int i = 0; i < names.size(); i++) {
        row[FIXED + i] = g.parts().getOrDefault(names.get(i), 0.0);
      }
      rows.add(row);
    }
    double[] sum = sharding.sum(rows);
    Map<String, Double> parts = new LinkedHashMap<>();
    for (int i = 0; i < names.size(); i++) {
      parts.put(names.get(i), sum[FIXED + i]);
    }
    return new Gradients(sum[0], parts, (int) sum[1], (int) sum[2], (int) sum[3]);
  }

  private StepReport notFinite(
      String what,
      int index,
      Gradients g,
      double norm,
      double learningRate,
      List<StepSequence> sequences) {
    if (settings.onNonFinite() == TrainSettings.OnNonFinite.STOP) {
      List<String> sources = sequences.stream().map(StepSequence::source).distinct().toList();
      throw new UserException(
          "step "
              + index
              + ": the "
              + what
              + " is not finite; nothing was updated. The batch: "
              + String.join(", ", sources)
              + ". Lower train.learning_rate, or set train.on_non_finite=skip to go on without such"
              + " steps");
    }
    return report(index, g, norm, learningRate, false);
  }

  /** One token stands for all padding, but each padded place would have a mask of its own. */
  private static void requireKeys(Model model, TrainSettings settings) {
    if (!settings.parity().padding().isNone() && model.lora() != null && model.lora().drops()) {
      throw new UserException(
          "parity.padding and lora.dropout cannot go together: padding is one token that counts"
              + " often, and has no masks; set lora.dropout=0");
    }
  }

  @Override
  public void close() {
    gradientSum.close();
    staging.close();
    graphs.close();
    head.close();
    decoder.close();
  }
}
