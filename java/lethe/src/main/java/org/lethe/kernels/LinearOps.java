package org.lethe.kernels;

import org.bytedeco.javacpp.LongPointer;
import org.lethe.internal.abi.Abi;

/**
 * The ops of {@code lethe.h} that begin with {@code lethe_linear}: the same names behind that,
 * argument order and shapes. Only the backend's thread may call them.
 */
public final class LinearOps {
  private final Backend backend;
  private final Dtype dtype;

  /** Those of a backend, for one storage. */
  LinearOps(Backend backend, Dtype storage) {
    this.backend = backend;
    this.dtype = storage;
  }

  /**
   * A weight {@code w[out,in]} and a bias {@code b[out]} (0: none) in storage; {@code dw[out,in]}
   * and {@code db[out]} fp32 receive their gradients, when not 0.
   */
  public long create(long out, long in, long w, long dw, long b, long db) {
    try (LongPointer id = new LongPointer(1)) {
      NativeStatus.check(
          Abi.lethe_linear_create(backend.handle(), dtype.code(), out, in, w, dw, b, db, id));
      return id.get();
    }
  }

  /**
   * How the device wants a frozen weight {@code [out,in]} to lie whose adapters have {@code rank}
   * ranks in all: {@code in} and 0 where it has no use for more.
   */
  public Spare spare(long out, long in, long rank) {
    try (LongPointer stride = new LongPointer(1);
        LongPointer rows = new LongPointer(1)) {
      NativeStatus.check(
          Abi.lethe_linear_spare(backend.handle(), dtype.code(), out, in, rank, stride, rows));
      return new Spare(stride.get(), rows.get());
    }
  }

  /** {@link #create} for a frozen weight that lies so; its adapters must fit. */
  public long createStrided(long out, long in, Spare spare, long w, long b) {
    try (LongPointer id = new LongPointer(1)) {
      NativeStatus.check(
          Abi.lethe_linear_create_strided(
              backend.handle(), dtype.code(), out, in, spare.stride(), spare.rows(), w, b, id));
      return id.get();
    }
  }

  /**
   * A frozen weight {@code [out,in]} that stays in 4-bit codes, which {@link #nf4Part} gives, and
   * is dequantised into {@code scratch} when it is needed, where it lies as {@code spare} says;
   * linears may share that.
   */
  public long createNf4(long out, long in, Spare spare, long block, long scratch, long b) {
    try (LongPointer id = new LongPointer(1)) {
      NativeStatus.check(
          Abi.lethe_linear_create_nf4_strided(
              backend.handle(),
              dtype.code(),
              out,
              in,
              spare.stride(),
              spare.rows(),
              block,
              scratch,
              b,
              id));
      return id.get();
    }
  }

  /** The codes of the rows {@code [firstOut, firstOut + partOut)}, quantised by themselves. */
  public void nf4Part(long linear, long firstOut, long partOut, long packed, Nf4Scales scales) {
    NativeStatus.check(
        Abi.lethe_linear_nf4_part(
            backend.handle(),
            linear,
            firstOut,
            partOut,
            packed,
            scales.absmax(),
            scales.nested(),
            scales.nestedMap(),
            scales.nestedAbsmax(),
            scales.nestedOffset()));
  }

  /**
   * Adds an adapter to the outputs from {@code firstOut} on: {@code a[rank,in]}, {@code
   * b[partOut,rank]}.
   *
   * @param dropout in [0, 1): the share of the adapter's inputs that calls with row keys zero
   * @param key names the adapter's stream of random numbers
   */
  public void adapter(
      long linear,
      long firstOut,
      long partOut,
      long rank,
      float scale,
      float dropout,
      long key,
      long a,
      long b,
      long da,
      long db) {
    NativeStatus.check(
        Abi.lethe_linear_adapter(
            backend.handle(), linear, firstOut, partOut, rank, scale, dropout, key, a, b, da, db));
  }

  /** Frees what {@link #create} made; the weights stay. */
  public void close(long linear) {
    NativeStatus.check(Abi.lethe_linear_close(backend.handle(), linear));
  }

  /**
   * {@code y[T,out] = x[T,in]·Wᵀ + b (+ residual) (+ adapters, on the first adapted rows)}; keeps
   * {@code u[adapted,R]}.
   *
   * @param rowKeys uint64 [adapted], the counters of the rows' dropout masks; 0: no dropout
   */
  public void forward(
      long linear, long tokens, long adapted, long x, long residual, long y, long rowKeys, long u) {
    NativeStatus.check(
        Abi.lethe_linear_forward(
            backend.handle(), linear, tokens, adapted, x, residual, y, rowKeys, u));
  }

  /**
   * {@code dx[T,in]} (0: not wanted) and the gradients of the weight and its adapters, of which
   * those wanted.
   *
   * @param rowKeys what the forward call was given
   */
  public void backward(
      long linear, long tokens, long x, long u, long dy, long rowKeys, long du, long dx) {
    NativeStatus.check(
        Abi.lethe_linear_backward(backend.handle(), linear, tokens, x, u, dy, rowKeys, du, dx));
  }

  /**
   * How a frozen weight {@code [out,in]} lies.
   *
   * @param stride elements from row to row, at least {@code in}
   * @param rows spare rows of that stride behind the last one
   */
  public record Spare(long stride, long rows) {
    /** Whether a weight with rows of {@code in} numbers has columns or rows to spare. */
    public boolean any(long in) {
      return stride > in || rows > 0;
    }
  }
}
