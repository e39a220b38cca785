package org.lethe.model;

import org.lethe.kernels.Arena;
import org.lethe.kernels.Backend;
import org.lethe.kernels.Dtype;
import org.lethe.kernels.Ops;
import org.lethe.kernels.Staging;

/**
 * The optimizer's view of a set of parameters: fp32 master, first and second moments and gradients,
 * each one arena, and the working copy in storage that the model reads (the master itself when
 * storage is fp32).
 *
 * <p>Owns its arenas except the working copy. Only the backend's thread may call it.
 */
public final class Trainable implements AutoCloseable {
  private final Ops ops;
  private final Layout layout;
  private final Arena arena;
  private final long moments1;
  private final long moments2;
  private final long gradients;
  private final long state;
  private final long stateOffset;
  private final long gradientsOffset;
  private final long master;
  private final long copy;

  /**
   * @param working the working copy in storage, {@code layout.elements()} numbers, already holding
   *     the parameters
   */
  Trainable(Ops ops, Layout layout, long working) {
    this.ops = ops;
    this.layout = layout;
    Backend backend = ops.backend();
    this.arena = new Arena(backend, "optimizer and gradients");
    long n = layout.elements();
    boolean separateMaster = ops.dtype() != Dtype.F32;
    long masterOffset = separateMaster ? arena.reserve(n, Dtype.F32) : 0;
    long m = arena.reserve(n, Dtype.F32);
    long v = arena.reserve(n, Dtype.F32);
    long g = arena.reserve(n, Dtype.F32);
    long s = arena.reserve(Ops.UPDATE_STATE, Dtype.F32);
    arena.allocate();
    this.moments1 = arena.at(m);
    this.moments2 = arena.at(v);
    this.gradients = arena.at(g);
    this.state = arena.at(s);
    this.stateOffset = s;
    this.gradientsOffset = g;
    if (separateMaster) {
      this.master = arena.at(masterOffset);
      this.copy = working;
      ops.convert(n, ops.dtype(), working, Dtype.F32, master);
    } else {
      this.master = working;
      this.copy = 0;
    }
  }

  /** Bytes that so many parameters in this storage will take beside their working copy. */
  public static long bytes(Layout layout, Dtype storage) {
    return layout.elements() * Float.BYTES * (storage == Dtype.F32 ? 3 : 4);
  }

  /** Names, shapes and places of its parameters. */
  public Layout layout() {
    return layout;
  }

  /** The ref of a parameter's fp32 gradient. */
  public long gradient(String name) {
    return gradients + layout.parameter(name).offset() * Float.BYTES;
  }

  /** The ref of all fp32 gradients. */
  public long gradients() {
    return gradients;
  }

  /** Byte offset of the fp32 gradients in {@link #arena()}. */
  public long gradientsOffset() {
    return gradientsOffset;
  }

  /** The ops of its device, in the model's storage. */
  public Ops ops() {
    return ops;
  }

  /** The ref of the fp32 master of all parameters. */
  public long master() {
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

  /** Sets every gradient to 0. */
  public void zeroGradients() {
    ops.zero(gradients, layout.elements() * Float.BYTES);
  }

  /** Norm, clip coefficient and finite flag, left on the device. */
  public void measure(float maxNorm) {
    ops.gradientNorm(layout.elements(), gradients, maxNorm, state);
  }

  /**
   * One AdamW step with the clip of the last {@link #measure}; none when a gradient was not finite.
   */
  public void update(Ops.AdamWSettings settings, float learningRate) {
    ops.adamw(
        layout.elements(),
        layout.decayed(),
        master,
        moments1,
        moments2,
        gradients,
        copy,
        settings,
        learningRate,
        state);
  }

  /** The fp32 arrays, one number per parameter each, that a checkpoint holds. */
  public enum State {
    /** The parameters themselves. */
    MASTER,
    /** AdamW's running mean of the gradient. */
    MOMENT1,
    /** AdamW's running mean of its square. */
    MOMENT2
  }

  /** The ref of one parameter's numbers in an array. */
  public long at(State state, Parameter parameter) {
    long first =
        switch (state) {
          case MASTER -> master;
          case MOMENT1 -> moments1;
          case MOMENT2 -> moments2;
        };
    return first + parameter.offset() * Float.BYTES;
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
   * Goes on from numbers that were written to {@link #at} and from {@link #updateState}: the
   * working copy is rounded from the master anew, as an update does.
   */
  public void restored(float[] updateState) {
    try (Staging staging = new Staging(updateState.length * Float.BYTES)) {
      staging.upload(updateState, updateState.length, arena.buffer(), stateOffset);
    }
    if (copy != 0) {
      ops.convert(layout.elements(), Dtype.F32, master, ops.dtype(), copy);
    }
  }

  /** Forgets the moments and the count of updates; the parameters stay. */
  public void resetOptimizer() {
    ops.zero(moments1, layout.elements() * Float.BYTES);
    ops.zero(moments2, layout.elements() * Float.BYTES);
    ops.zero(state, (long) Ops.UPDATE_STATE * Float.BYTES);
  }

  @Override
  public void close() {
    arena.close();
  }
}
