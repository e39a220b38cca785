package org.lethe.run;

import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import org.lethe.kernels.Dtype;
import org.lethe.method.Method;
import org.lethe.model.ActivationPolicy;
import org.lethe.model.AdapterWidths;
import org.lethe.model.BaseStorage;
import org.lethe.model.Head;
import org.lethe.model.Lora;
import org.lethe.model.LoraConfig;
import org.lethe.model.Model;
import org.lethe.model.ModelConfig;
import org.lethe.model.Trainable;
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
 * @param base how the weights of the layers' linears are kept
 * @param lora null: all weights train
 * @param step sequences as long as the longest of the run's
 * @param workspace of the device's head
 */
record PlannedTraining(
    ModelConfig model,
    Dtype dtype,
    BaseStorage base,
    LoraConfig lora,
    Method method,
    TrainSettings settings,
    List<StepSequence> step,
    Head.Workspace workspace,
    DeviceCosts costs) {

  PlannedTraining with(Dtype other) {
    return with(other, base, lora, settings);
  }

  PlannedTraining with(BaseStorage other) {
    return with(dtype, other, lora, settings);
  }

  PlannedTraining with(LoraConfig other) {
    return with(dtype, base, other, settings);
  }

  PlannedTraining with(MemorySettings.Activations activations) {
    MemorySettings bounds = new MemorySettings(settings.memory().budget(), activations);
    return with(dtype, base, lora, settings.with(bounds));
  }

  private PlannedTraining with(
      Dtype other, BaseStorage kept, LoraConfig adapters, TrainSettings bounds) {
    return new PlannedTraining(
        model, other, kept, adapters, method, bounds, step, workspace, costs);
  }

  /** What does not depend on how a step is cut. */
  Map<String, Long> fixed() {
    Map<String, Long> parts = new LinkedHashMap<>();
    parts.put("libraries", costs.overheadBytes());
    parts.put("weights", Model.bytes(model, dtype, base));
    if (lora == null) {
      parts.put("gradients and optimizer", Trainable.bytes(Model.layout(model), dtype));
    } else {
      long copies = Lora.layout(model, lora).elements() * dtype.bytes();
      long optimizer = Trainable.bytes(Lora.layout(model, lora), dtype);
      parts.put("adapters, gradients and optimizer", copies + optimizer);
    }
    return parts;
  }

  StepMemory memory() {
    AdapterWidths widths = lora == null ? AdapterWidths.NONE : AdapterWidths.of(model, lora);
    return new StepMemory(
        model, dtype, widths, Step.headRows(method, settings, null), workspace, filled());
  }

  /** Graphs are a device's alone. */
  private boolean filled() {
    return !costs.host()
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

  private int piece(int limit) {
    return Step.largestPiece(method, settings.withTokensPerMicroBatch(limit), null, List.of(step));
  }
}
