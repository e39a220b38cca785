package org.lethe.run;

import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import org.lethe.kernels.Dtype;
import org.lethe.method.Method;
import org.lethe.model.ActivationPolicy;
import org.lethe.model.AdapterRoom;
import org.lethe.model.AdapterWidths;
import org.lethe.model.Head;
import org.lethe.model.Lora;
import org.lethe.model.LoraConfig;
import org.lethe.model.Model;
import org.lethe.model.ModelConfig;
import org.lethe.model.OptimizerConfig;
import org.lethe.model.SpareRule;
import org.lethe.model.Trainable;
import org.lethe.model.WeightPlacement;
import org.lethe.train.DeviceCosts;
import org.lethe.train.Graphs;
import org.lethe.train.MemorySettings;
import org.lethe.train.Step;
import org.lethe.train.StepFit;
import org.lethe.train.StepMemory;
import org.lethe.train.StepSequence;
import org.lethe.train.TrainSettings;

/**
 * A training that nothing was loaded of: what of a device it would take.
 *
 * @param weights how and where those that are frozen are kept
 * @param lora null: all weights train
 * @param optimizer what is kept of each parameter that trains
 * @param step sequences as long as the longest of the run's
 * @param workspace of the device's head
 * @param spare how the device wants the weights of linears with adapters to lie
 */
record PlannedTraining(
    ModelConfig model,
    Dtype dtype,
    WeightPlacement weights,
    LoraConfig lora,
    OptimizerConfig optimizer,
    Method method,
    TrainSettings settings,
    List<StepSequence> step,
    Head.Workspace workspace,
    SpareRule spare,
    DeviceCosts costs) {

  PlannedTraining with(Dtype other) {
    return with(other, weights, lora, optimizer, settings);
  }

  PlannedTraining with(WeightPlacement other) {
    return with(dtype, other, lora, optimizer, settings);
  }

  /** Adapters in place of all weights, whose gradients exist at once. */
  PlannedTraining with(LoraConfig other) {
    OptimizerConfig whole = new OptimizerConfig(optimizer.master(), optimizer.moments(), false);
    return with(dtype, weights, other, whole, settings);
  }

  PlannedTraining with(OptimizerConfig other) {
    return with(dtype, weights, lora, other, settings);
  }

  PlannedTraining with(MemorySettings.Activations activations) {
    MemorySettings bounds = new MemorySettings(settings.memory().budget(), activations);
    return with(dtype, weights, lora, optimizer, settings.with(bounds));
  }

  private PlannedTraining with(
      Dtype other,
      WeightPlacement kept,
      LoraConfig adapters,
      OptimizerConfig state,
      TrainSettings bounds) {
    return new PlannedTraining(
        model, other, kept, adapters, state, method, bounds, step, workspace, spare, costs);
  }

  /** What does not depend on how a step is cut. */
  Map<String, Long> fixed() {
    Map<String, Long> parts = new LinkedHashMap<>();
    parts.put("libraries", costs.overheadBytes());
    long packed = Model.bytes(model, dtype, weights);
    parts.put("weights", packed);
    long room = lora == null ? 0 : Model.bytes(model, dtype, weights, room()) - packed;
    if (room > 0) {
      parts.put("room for adapters beside weights", room);
    }
    if (lora == null) {
      parts.put("gradients and optimizer", Trainable.bytes(model, dtype, optimizer));
    } else {
      long copies = Lora.layout(model, lora).elements() * dtype.bytes();
      long state = Trainable.bytes(Lora.layout(model, lora), dtype, optimizer);
      parts.put("adapters, gradients and optimizer", copies + state);
    }
    return parts;
  }

  private AdapterRoom room() {
    return AdapterRoom.of(spare, model, List.of(lora));
  }

  StepMemory memory() {
    AdapterWidths widths = lora == null ? AdapterWidths.NONE : AdapterWidths.of(model, lora);
    return new StepMemory(
        model, dtype, widths, Step.headRows(method, settings, null), workspace, filled());
  }

  /** Graphs are a device's alone. */
  private boolean filled() {
    return !costs.host()
        && !optimizer.fused()
        && settings.graphs() != Graphs.NEVER
        && settings.memory().activations() != MemorySettings.Activations.OFFLOAD;
  }

  /** How a step would be cut inside so many bytes; empty where it does not fit. */
  Optional<StepFit> fit(long available) {
    long held = fixed().values().stream().mapToLong(Long::longValue).sum();
    return StepFit.cheapest(
        memory(),
        settings.memory().activations(),
        available - held,
        settings.tokensPerMicroBatch(),
        this::piece,
        costs.pieceTokens());
  }

  /** As the settings say, or as small as they allow. */
  StepFit cut(boolean smallest) {
    int limit = smallest ? 1 : settings.tokensPerMicroBatch();
    ActivationPolicy policy =
        smallest
            ? settings.memory().activations().least(model.layers())
            : settings.memory().activations().unbounded(model.layers());
    int piece = piece(limit);
    return new StepFit(limit, piece, policy, memory().bytes(piece, policy));
  }

  /** A fused update cannot be cut. */
  private int piece(int limit) {
    int tokens = optimizer.fused() ? Integer.MAX_VALUE : limit;
    return Step.largestPiece(method, settings.withTokensPerMicroBatch(tokens), null, List.of(step));
  }
}
