package org.lethe.run;

import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.function.IntToLongFunction;
import org.lethe.kernels.Dtype;
import org.lethe.method.Method;
import org.lethe.model.ActivationPolicy;
import org.lethe.model.AdapterRoom;
import org.lethe.model.Head;
import org.lethe.model.InferenceMemory;
import org.lethe.model.LoraConfig;
import org.lethe.model.Model;
import org.lethe.model.ModelConfig;
import org.lethe.model.OptimizerConfig;
import org.lethe.model.ScratchPlan;
import org.lethe.model.SpareRule;
import org.lethe.model.WeightPlacement;
import org.lethe.train.DeviceCosts;
import org.lethe.train.Graphs;
import org.lethe.train.MemorySettings;
import org.lethe.train.PieceShape;
import org.lethe.train.ReferenceCache;
import org.lethe.train.StepCuts;
import org.lethe.train.StepFit;
import org.lethe.train.StepMemory;
import org.lethe.train.StepSequence;
import org.lethe.train.StepSizing;
import org.lethe.train.TrainSettings;

/**
 * A training that nothing was loaded of: what of a device it would take.
 *
 * @param weights how and where those that are frozen are kept
 * @param adapters on the model; none of them trains where all weights do
 * @param optimizer what is kept of each parameter that trains
 * @param cached whether what the reference says of sequences is computed ahead
 * @param measured rows that the head's chunk is measured with before; 0: it is not
 * @param step sequences as long as the longest of the run's
 * @param judging what else is asked of the model
 * @param device what it wants of memory
 */
record PlannedTraining(
    ModelConfig model,
    Dtype dtype,
    WeightPlacement weights,
    PlannedAdapters adapters,
    OptimizerConfig optimizer,
    Method method,
    boolean cached,
    int measured,
    TrainSettings settings,
    List<StepSequence> step,
    Judging judging,
    Device device) {

  /**
   * What a device alone knows of memory.
   *
   * @param workspace of its head
   * @param spare how it wants the weights of linears with adapters to lie
   */
  record Device(Head.Workspace workspace, SpareRule spare, DeviceCosts costs) {}

  /** What happens at one time: bytes by part, and in all with what is held throughout. */
  record Phase(String name, Map<String, Long> parts, long bytes) {}

  /** Bytes of the largest of them. */
  static long most(List<Phase> phases) {
    return phases.stream().mapToLong(Phase::bytes).max().orElseThrow();
  }

  PlannedTraining with(Dtype other) {
    return with(other, weights, adapters, optimizer, settings, judging);
  }

  PlannedTraining with(WeightPlacement other) {
    return with(dtype, other, adapters, optimizer, settings, judging);
  }

  /** Adapters in place of all weights, whose gradients exist at once. */
  PlannedTraining with(LoraConfig other) {
    OptimizerConfig whole = new OptimizerConfig(optimizer.master(), optimizer.moments(), false);
    return with(dtype, weights, adapters.with(other), whole, settings, judging);
  }

  PlannedTraining with(OptimizerConfig other) {
    return with(dtype, weights, adapters, other, settings, judging);
  }

  PlannedTraining with(MemorySettings.Activations activations) {
    MemorySettings bounds = new MemorySettings(settings.memory().budget(), activations);
    return with(dtype, weights, adapters, optimizer, settings.with(bounds), judging);
  }

  PlannedTraining with(Judging other) {
    return with(dtype, weights, adapters, optimizer, settings, other);
  }

  private PlannedTraining with(
      Dtype other,
      WeightPlacement kept,
      PlannedAdapters carried,
      OptimizerConfig state,
      TrainSettings bounds,
      Judging asked) {
    return new PlannedTraining(
        model, other, kept, carried, state, method, cached, measured, bounds, step, asked, device);
  }

  /** Whether adapters train, and not all weights. */
  boolean trainsAdapters() {
    return adapters.trained() != null;
  }

  /** What is held throughout: it does not depend on how a step is cut. */
  Map<String, Long> fixed() {
    Map<String, Long> parts = new LinkedHashMap<>();
    parts.put("libraries", device.costs().overheadBytes());
    long packed = Model.bytes(model, dtype, weights);
    parts.put("weights", packed);
    long room = Model.bytes(model, dtype, weights, room()) - packed;
    if (room > 0) {
      parts.put("room for adapters beside weights", room);
    }
    if (!adapters.frozen().isEmpty()) {
      parts.put("frozen adapters", adapters.frozenBytes(model, dtype));
    }
    parts.put(
        trainsAdapters() ? "adapters, gradients and optimizer" : "gradients and optimizer",
        adapters.trainedBytes(model, dtype, optimizer));
    return parts;
  }

  private AdapterRoom room() {
    return AdapterRoom.of(device.spare(), model, trainsAdapters() ? adapters.all() : List.of());
  }

  /** What its ops take of the device's engine. */
  private ScratchPlan scratch() {
    return new ScratchPlan(
        model, dtype, adapters.all(), room(), adapters.trained(), optimizer, device.costs().host());
  }

  /** What they take however a step is cut. */
  private long leastScratch() {
    ScratchPlan plan = scratch();
    long besides = Math.max(plan.loading(), plan.measuring(measured));
    return Math.max(besides, judging.scratch(plan, inference()));
  }

  private long measured(int rows) {
    return Head.bytes(model, dtype, device.workspace(), rows, rows);
  }

  /** What trains is added after it. */
  private long heldWhileMeasuring() {
    return device.costs().overheadBytes()
        + Model.bytes(model, dtype, weights, room())
        + adapters.frozenBytes(model, dtype);
  }

  /** What they take of scratch memory where the largest piece has so many tokens. */
  long scratch(int piece) {
    return scratches().applyAsLong(piece);
  }

  // What is counted layer by layer is the same for every piece.
  private IntToLongFunction scratches() {
    int sequences = PieceShape.sequences(method, reference(), List.of(step), filled());
    ScratchPlan plan = scratch();
    StepMemory memory = memory();
    long least = leastScratch();
    return piece -> Math.max(least, PieceShape.scratch(plan, memory, sequences, piece));
  }

  private long held() {
    return fixed().values().stream().mapToLong(Long::longValue).sum();
  }

  StepMemory memory() {
    return new StepMemory(
        model,
        dtype,
        adapters.widths(model),
        StepSizing.headRows(method, settings, reference()),
        device.workspace(),
        filled());
  }

  private InferenceMemory inference() {
    return new InferenceMemory(model, dtype, adapters.widths(model), device.workspace());
  }

  private ReferenceCache reference() {
    return cached && ReferenceCache.isNeeded(method) ? ReferenceCache.planned() : null;
  }

  /** Graphs are a device's alone. */
  private boolean filled() {
    return !device.costs().host()
        && !optimizer.fused()
        && settings.graphs() != Graphs.NEVER
        && settings.memory().activations() != MemorySettings.Activations.OFFLOAD;
  }

  /** How a step would be cut inside so many bytes; empty where the run does not fit. */
  Optional<StepFit> fit(long available) {
    if (loading() > available) {
      return Optional.empty();
    }
    long least = leastScratch();
    long left = available - held() - least;
    long after = judging.leastAfter(inference());
    IntToLongFunction scratches = scratches();
    return StepFit.cheapest(
        memory(),
        settings.memory().activations(),
        left - judging.leastBeside(inference()),
        settings.tokensPerMicroBatch(),
        cuts(),
        piece -> {
          long more = scratches.applyAsLong(piece) - least;
          // Nothing of the steps stays but their scratch memory.
          return more + after > left ? Long.MAX_VALUE / 2 : more;
        },
        device.costs().pieceTokens());
  }

  /** As the settings say, or as small as they allow. */
  StepFit cut(boolean smallest) {
    int limit = smallest ? 1 : cuts().tightest(settings.tokensPerMicroBatch());
    ActivationPolicy policy =
        smallest
            ? settings.memory().activations().least(model.layers())
            : settings.memory().activations().unbounded(model.layers());
    int piece = cuts().largest(limit);
    return new StepFit(limit, piece, policy, memory().bytes(piece, policy));
  }

  /** A fused update cannot be cut. */
  private StepCuts cuts() {
    StepCuts cuts = StepSizing.cuts(method, settings, reference(), List.of(step));
    return optimizer.fused() ? StepCuts.whole(cuts) : cuts;
  }

  /**
   * What happens when steps are cut so.
   *
   * @param available what evaluation and sampling keep within as far as they can
   */
  List<Phase> phases(StepFit fit, long available) {
    long held = held() + scratch(fit.piece());
    Map<String, Long> steps = new LinkedHashMap<>();
    steps.put("activations", memory().activations(fit.piece(), fit.policy()));
    steps.put("head", memory().head(fit.piece()));
    long taken = held + steps.values().stream().mapToLong(Long::longValue).sum();
    Map<String, Long> beside = judging.besideParts(inference(), available - taken);
    steps.putAll(beside);
    Map<String, Long> after = judging.afterParts(inference(), available - held);
    List<Phase> phases = new ArrayList<>();
    phases.add(new Phase("loading", Map.of(), loading()));
    if (measured > 0) {
      long before = heldWhileMeasuring() + scratch(fit.piece());
      long head = measured(HeadTuning.rows(measured, this::measured, available - before));
      phases.add(new Phase("measuring", Map.of("head that is measured", head), before + head));
    }
    phases.add(new Phase("training", steps, taken + most(beside)));
    if (!after.isEmpty()) {
      phases.add(new Phase("evaluation", after, held + most(after)));
    }
    return phases;
  }

  private long loading() {
    return LoadingRoom.bytes(model, dtype, weights, room(), device.costs());
  }

  /** Of what does not overlap. */
  private static long most(Map<String, Long> parts) {
    return parts.values().stream().mapToLong(Long::longValue).max().orElse(0);
  }
}
