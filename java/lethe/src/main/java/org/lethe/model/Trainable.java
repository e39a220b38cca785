package org.lethe.model;

import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import org.lethe.InternalFaultException;
import org.lethe.UserException;
import org.lethe.kernels.AdamWSettings;
import org.lethe.kernels.Arena;
import org.lethe.kernels.Dtype;
import org.lethe.kernels.Ops;
import org.lethe.kernels.PartOps;
import org.lethe.kernels.Staging;

/**
 * The optimizer's view of a set of parameters: fp32 master, first and second moments and gradients
 * in one arena, as its {@link OptimizerConfig} says, and the working copy in storage that the model
 * reads (the master itself when storage is fp32).
 *
 * <p>Owns its arena but not the working copy. Only the backend's thread may call it.
 */
public final class Trainable implements AutoCloseable {
  private final Ops ops;
  private final Layout layout;
  private final OptimizerConfig config;
  private final UpdateGroups groups;
  private final Arena arena;
  private final MomentArrays moments;
  private final GradientSlots slots;
  private final FusedUpdate fused;
  private final long gradientsOffset;
  private final long stateOffset;
  // The ref of the fp32 master; 0 where there is none.
  private final long master;
  // The ref of the working copy where it is not the master; else 0.
  private final long copy;

  /**
   * @param working the working copy in storage, {@code layout.elements()} numbers, already holding
   *     the parameters
   */
  Trainable(Ops ops, Layout layout, UpdateGroups groups, OptimizerConfig config, long working) {
    this(ops, layout, groups, config, new Arena(ops.backend(), "optimizer and gradients"), working);
  }

  private Trainable(
      Ops ops,
      Layout layout,
      UpdateGroups groups,
      OptimizerConfig config,
      Arena arena,
      long working) {
    requireMaster(config, ops.dtype());
    this.ops = ops;
    this.layout = layout;
    this.config = config;
    this.groups = groups;
    this.arena = arena;
    long n = layout.elements();
    boolean wide = ops.dtype() == Dtype.F32;
    boolean separate = !wide && config.master() == OptimizerConfig.Master.FP32;
    // Adapters find the master at the arena's start.
    long masterOffset = separate ? arena.reserve(n, Dtype.F32) : 0;
    this.moments = new MomentArrays(arena, layout, groups, config);
    this.slots = config.fused() ? new GradientSlots(arena, layout, groups) : null;
    this.gradientsOffset = config.fused() ? 0 : arena.reserve(n, Dtype.F32);
    this.stateOffset = arena.reserve(Ops.UPDATE_STATE, Dtype.F32);
    arena.allocate();
    this.copy = wide ? 0 : working;
    this.fused = config.fused() ? new FusedUpdate(this, groups, slots) : null;
    if (arena.counts()) {
      this.master = 0;
      return;
    }
    this.master = separate ? arena.at(masterOffset) : wide ? working : 0;
    moments.begin();
    if (separate) {
      ops.convert(n, ops.dtype(), working, Dtype.F32, master);
    }
  }

  /**
   * Refuses a configuration that storage has no use for.
   *
   * @throws UserException for fp32 weights without a master, which they are themselves
   */
  public static void requireMaster(OptimizerConfig config, Dtype storage) {
    if (storage == Dtype.F32 && config.master() == OptimizerConfig.Master.NONE) {
      throw new UserException(
          "train.master=none rounds bf16 weights stochastically, but dtype is fp32, where weights"
              + " are their own master and nothing would be saved; set dtype=bf16, or"
              + " train.master=fp32");
    }
  }

  /** Bytes on its device that adapters of a layout will take beside their working copy. */
  public static long bytes(Layout layout, Dtype storage, OptimizerConfig config) {
    return bytes(layout, storage, UpdateGroups.one(layout), config);
  }

  /** Bytes on its device that all weights of a model will take beside their working copy. */
  public static long bytes(ModelConfig model, Dtype storage, OptimizerConfig config) {
    Layout layout = Model.layout(model);
    return bytes(layout, storage, UpdateGroups.of(model, layout), config);
  }

  private static long bytes(
      Layout layout, Dtype storage, UpdateGroups groups, OptimizerConfig config) {
    Arena counting = new Arena(null);
    return new Trainable(new Ops(null, storage), layout, groups, config, counting, 0).bytes();
  }

  /** Bytes on its device. */
  public long bytes() {
    return arena.bytes();
  }

  /** Names, shapes and places of its parameters. */
  public Layout layout() {
    return layout;
  }

  /** What it keeps of each parameter. */
  public OptimizerConfig config() {
    return config;
  }

  /** The update that the backward pass does itself; null where it comes after it. */
  public FusedUpdate fused() {
    return fused;
  }

  /** The ref of a parameter's fp32 gradient. */
  public long gradient(String name) {
    return fused != null
        ? fused.gradient(name)
        : gradients() + layout.parameter(name).offset() * Float.BYTES;
  }

  /** The ref of all fp32 gradients, which a fused update never has at once. */
  public long gradients() {
    return arena.at(gradientsOffset());
  }

  /** Byte offset of the fp32 gradients in {@link #arena()}. */
  public long gradientsOffset() {
    if (fused != null) {
      throw new InternalFaultException("a fused update has the gradients of one layer at a time");
    }
    return gradientsOffset;
  }

  /** The ops of its device, in the model's storage. */
  public Ops ops() {
    return ops;
  }

  /** Whether there is an fp32 master apart from the working copy, at the start of the arena. */
  boolean hasSeparateMaster() {
    return copy != 0 && master != 0;
  }

  /**
   * The ref of the fp32 master of all parameters.
   *
   * @throws UserException when there is none
   */
  public long master() {
    if (master == 0) {
      throw new UserException(
          "there is no fp32 master of what trains (train.master=none); train with fp32");
    }
    return master;
  }

  /** The arena that holds master (when separate), moments, gradients and the update's state. */
  public Arena arena() {
    return arena;
  }

  /** Byte offset of the update's state in {@link #arena()}. */
  public long stateOffset() {
    return stateOffset;
  }

  long state() {
    return arena.at(stateOffset);
  }

  /** Sets every gradient to 0. */
  public void zeroGradients() {
    if (fused != null) {
      fused.zeroGradients();
    } else {
      ops.zero(gradients(), layout.elements() * Float.BYTES);
    }
  }

  /** Norm, clip coefficient and finite flag, left on the device. */
  public void measure(float maxNorm) {
    ops.gradientNorm(layout.elements(), gradients(), maxNorm, state());
  }

  /** The same with random numbers of seed 0, which only a missing master has use for. */
  public void update(AdamWSettings settings, float learningRate) {
    update(settings, learningRate, 0);
  }

  /**
   * One AdamW step with the clip of the last {@link #measure}; none when a gradient was not finite.
   *
   * @param seed of stochastic rounding
   */
  public void update(AdamWSettings settings, float learningRate, long seed) {
    if (master != 0 && !moments.coded()) {
      ops.adamw(
          layout.elements(),
          layout.decayed(),
          master,
          moments.floats(0, 0),
          moments.floats(1, 0),
          gradients(),
          copy,
          settings,
          learningRate,
          state());
      return;
    }
    FusedUpdate.Settings how = new FusedUpdate.Settings(0, settings, learningRate, seed);
    UpdateGroups.Group last = groups.groups().get(groups.groups().size() - 1);
    for (UpdateGroups.Group group : groups.groups()) {
      long matrices = gradients() + group.matrices().first() * Float.BYTES;
      long vectors = gradients() + group.vectors().first() * Float.BYTES;
      updateGroup(group, matrices, vectors, how, group.equals(last));
    }
  }

  /** Updates a group by its gradients; {@code last} counts the step. */
  void updateGroup(
      UpdateGroups.Group group,
      long matrixGradients,
      long vectorGradients,
      FusedUpdate.Settings how,
      boolean last) {
    boolean vectors = group.vectors().n() > 0;
    if (group.matrices().n() > 0) {
      PartOps.Moments own = moments.ofMatrices(group);
      float decay = how.adamW().weightDecay();
      updateRange(group.matrices(), own, matrixGradients, how, decay, last && !vectors);
    }
    if (vectors) {
      PartOps.Moments own = moments.inFloats(group.vectors().first());
      updateRange(group.vectors(), own, vectorGradients, how, 0, last);
    }
  }

  private void updateRange(
      UpdateGroups.Range range,
      PartOps.Moments own,
      long gradient,
      FusedUpdate.Settings how,
      float decay,
      boolean last) {
    long first = range.first();
    PartOps.Part part =
        new PartOps.Part(
            range.n(),
            first,
            master == 0 ? 0 : master + first * Float.BYTES,
            own,
            gradient,
            copy == 0 ? 0 : copy + first * ops.dtype().bytes());
    PartOps.Update update = new PartOps.Update(how.adamW(), how.learningRate(), decay, how.seed());
    new PartOps(ops).adamw(part, update, last, state());
  }

  /** How a number of a {@link Stored} is stored. */
  public enum Kind {
    F32,
    BF16,
    U8
  }

  /**
   * An array that a checkpoint holds.
   *
   * @param ref where its numbers lie, row by row
   */
  public record Stored(String name, Kind kind, List<Long> shape, long ref) {
    /** Its bytes. */
    public long bytes() {
      long each = kind == Kind.F32 ? Float.BYTES : kind == Kind.BF16 ? Short.BYTES : 1;
      return shape.stream().reduce(each, Math::multiplyExact);
    }
  }

  /** All that a checkpoint holds but {@link #updateState}: parameters, then both moments. */
  public List<Stored> stored() {
    List<Stored> all = new ArrayList<>();
    Kind kind = master == 0 ? Kind.BF16 : Kind.F32;
    for (Parameter p : layout.parameters().values()) {
      long at =
          master == 0 ? copy + p.offset() * ops.dtype().bytes() : master + p.offset() * Float.BYTES;
      all.add(new Stored("master/" + p.name(), kind, extents(p), at));
    }
    all.addAll(moments.stored(0));
    all.addAll(moments.stored(1));
    return all;
  }

  static List<Long> extents(Parameter p) {
    return Arrays.stream(p.shape()).boxed().toList();
  }

  /** The update's own numbers, {@link Ops#UPDATE_STATE} of them: norm, clip, steps applied. */
  public float[] updateState() {
    float[] values = new float[Ops.UPDATE_STATE];
    try (Staging staging = new Staging(values.length * Float.BYTES)) {
      staging.download(arena.buffer(), stateOffset, values, values.length);
    }
    return values;
  }

  /**
   * Goes on from numbers that were written to {@link #stored} and from {@link #updateState}: the
   * working copy is rounded from the master anew, as an update does.
   */
  public void restored(float[] updateState) {
    try (Staging staging = new Staging(updateState.length * Float.BYTES)) {
      staging.upload(updateState, updateState.length, arena.buffer(), stateOffset);
    }
    if (hasSeparateMaster()) {
      ops.convert(layout.elements(), Dtype.F32, master, ops.dtype(), copy);
    }
  }

  /** Forgets the moments and the count of updates; the parameters stay. */
  public void resetOptimizer() {
    moments.reset(ops);
    ops.zero(state(), (long) Ops.UPDATE_STATE * Float.BYTES);
  }

  @Override
  public void close() {
    arena.close();
  }
}
