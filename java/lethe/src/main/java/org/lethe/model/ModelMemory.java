package org.lethe.model;

import org.lethe.kernels.Arena;
import org.lethe.kernels.Dtype;
import org.lethe.kernels.Ops;

/**
 * What a model keeps on its device whatever it carries, in one arena: its weights, the rotary
 * tables and the mean row of its head. Weights that are kept on the host are here too.
 */
final class ModelMemory implements AutoCloseable {
  private final ModelConfig config;
  private final Dtype dtype;
  private final AdapterRoom room;
  private final Arena arena;
  private final BaseWeights weights;
  private final RotaryTables rotary;
  private final long headMean;

  private ModelMemory(
      Arena arena, ModelConfig config, Dtype dtype, WeightPlacement placement, AdapterRoom room) {
    this.config = config;
    this.dtype = dtype;
    this.room = room;
    this.arena = arena;
    this.weights = BaseWeights.reserve(arena, config, dtype, placement, room);
    this.rotary = new RotaryTables(arena, config);
    this.headMean = arena.reserve(config.hiddenSize(), Dtype.F32);
  }

  /** Bytes of its device that it will take. */
  static long bytes(ModelConfig config, Dtype dtype, WeightPlacement placement, AdapterRoom room) {
    return new ModelMemory(new Arena(null), config, dtype, placement, room).bytes();
  }

  /**
   * Takes it.
   *
   * @throws org.lethe.EnvironmentException when there is not so much; it says what would need less
   */
  static ModelMemory take(
      Ops ops, ModelConfig config, WeightPlacement placement, AdapterRoom room) {
    placement.requirePossible(config, ops.backend().isHost());
    Arena arena = new Arena(ops.backend(), "weights");
    ModelMemory taken = new ModelMemory(arena, config, ops.dtype(), placement, room);
    MemoryPlan.take(arena::allocate, () -> taken.plan(ops.backend().isHost()));
    try {
      taken.weights.takeHost(ops.backend());
    } catch (RuntimeException e) {
      arena.close();
      throw e;
    }
    return taken;
  }

  private MemoryPlan plan(boolean host) {
    WeightPlacement own = weights.placement();
    WeightPlacement codes = own.with(BaseStorage.NF4_DOUBLE);
    WeightPlacement moved = own.withEmbeddingOnHost();
    boolean moves = WeightPlacement.embeddingMayMove(config, host);
    return new MemoryPlan()
        .part("weights", bytes())
        .remedy("dtype=bf16", bytes() - bytes(config, Dtype.BF16, own, room))
        .remedy(
            "quantize_base=nf4_double, under adapters,",
            bytes() - bytes(config, dtype, codes, room))
        .remedy(
            "memory.embedding=host, under adapters,",
            moves ? bytes() - bytes(config, dtype, moved, room) : 0)
        .remedy("a model with fewer parameters, another device, or device=cpu");
  }

  /** Bytes of its device. */
  long bytes() {
    return arena.bytes();
  }

  BaseWeights weights() {
    return weights;
  }

  RotaryTables rotary() {
    return rotary;
  }

  /** The ref of the mean row of the head. */
  long headMean() {
    return arena.at(headMean);
  }

  @Override
  public void close() {
    weights.close();
    arena.close();
  }
}
