package org.lethe.kernels;

import org.bytedeco.javacpp.LongPointer;
import org.lethe.internal.abi.Abi;

/**
 * One checked method per op of {@code lethe.h}: the same names, argument order and shapes, which
 * that header documents. Those of the head and of linears are in {@link #head} and {@link #linear},
 * those that update part by part in {@link PartOps}.
 *
 * <p>Operands are refs ({@link Buffer#at}); "storage" is the dtype these ops were made for. Only
 * the backend's thread may call it.
 */
public final class Ops {
  /** Places in an update's state. */
  public static final int UPDATE_NORM = 0;

  /** Where an update's state says whether its gradient was finite: 1 or 0. */
  public static final int UPDATE_FINITE = 2;

  /** Floats of an update's state: norm, clip coefficient, finite, steps applied, and spare. */
  public static final int UPDATE_STATE = Abi.LETHE_UPDATE_STATE;

  private final Backend backend;

  private final Dtype dtype;
  private final HeadOps head;
  private final LinearOps linear;

  private final LongPointer ticket = new LongPointer(1);

  /**
   * The ops of a backend, for one storage.
   *
   * @param storage {@link Dtype#F32} or {@link Dtype#BF16}: how weights and activations are stored
   */
  public Ops(Backend backend, Dtype storage) {
    this.backend = backend;
    this.dtype = storage;
    this.head = new HeadOps(backend, storage);
    this.linear = new LinearOps(backend, storage);
  }

  /** The device they run on. */
  public Backend backend() {
    return backend;
  }

  /** The storage of weights and activations. */
  public Dtype dtype() {
    return dtype;
  }

  /** The ops of the head. */
  public HeadOps head() {
    return head;
  }

  /** The ops of linears. */
  public LinearOps linear() {
    return linear;
  }

  /** {@code dst[bytes] = src[bytes]}. */
  public void copy(long dst, long src, long bytes) {
    NativeStatus.check(Abi.lethe_copy(backend.handle(), dst, src, bytes));
  }

  /**
   * {@code dst[bytes] = src[bytes]}, beside what is asked afterwards, until {@link #waitAside}:
   * nothing may write either, or read {@code dst}, before.
   *
   * @return the ticket to wait for
   */
  public long copyAside(long dst, long src, long bytes) {
    NativeStatus.check(Abi.lethe_copy_aside(backend.handle(), dst, src, bytes, ticket));
    return ticket.get();
  }

  /** What is asked from now on comes after the copy of that ticket; the host does not wait. */
  public void waitAside(long number) {
    NativeStatus.check(Abi.lethe_wait_aside(backend.handle(), number));
  }

  /** {@code dst[bytes] = 0}. */
  public void zero(long dst, long bytes) {
    NativeStatus.check(Abi.lethe_zero(backend.handle(), dst, bytes));
  }

  /** {@code n} numbers from one floating dtype to the other. */
  public void convert(long n, Dtype srcDtype, long src, Dtype dstDtype, long dst) {
    NativeStatus.check(
        Abi.lethe_convert(backend.handle(), n, srcDtype.code(), src, dstDtype.code(), dst));
  }

  /**
   * {@code dst[n] = std·z}, with z the numbers from {@code first} on of the sequence of normal
   * numbers that {@code seed} names.
   */
  public void randomNormal(long n, long seed, long first, float std, long dst) {
    NativeStatus.check(
        Abi.lethe_random_normal(backend.handle(), dtype.code(), n, seed, first, std, dst));
  }

  /**
   * 4-bit NormalFloat codes of {@code src[n]} in blocks of {@code block}: {@code packed[⌈n/2⌉]}
   * bytes, the first of two in the high half, and {@code absmax[⌈n/block⌉]} fp32.
   */
  public void nf4Quantize(long n, long block, long src, long packed, long absmax) {
    NativeStatus.check(
        Abi.lethe_nf4_quantize(backend.handle(), dtype.code(), n, block, src, packed, absmax));
  }

  /** {@code dst[n]}: the codes' values times the scale of their block. */
  public void nf4Dequantize(long n, long block, long packed, Nf4Scales scales, long dst) {
    NativeStatus.check(
        Abi.lethe_nf4_dequantize(
            backend.handle(),
            dtype.code(),
            n,
            block,
            packed,
            scales.absmax(),
            scales.nested(),
            scales.nestedMap(),
            scales.nestedAbsmax(),
            scales.nestedOffset(),
            dst));
  }

  /**
   * {@code y = (x − mean)·rstd·(w + weightShift) + b (+ residual)} for every vector of the shape.
   *
   * @param b [width], LayerNorm only; 0: none
   * @param residual at y's stride, may be {@code y} itself; 0: none
   * @param y may be {@code x} itself
   * @param mean fp32 [rows·groups], LayerNorm only; 0: not kept
   * @param rstd fp32 [rows·groups]; 0: not kept
   */
  public void normForward(
      NormShape s, long x, long w, long b, long residual, long y, long mean, long rstd) {
    NativeStatus.check(
        Abi.lethe_norm_forward(
            backend.handle(),
            dtype.code(),
            s.kind().code(),
            s.rows(),
            s.groups(),
            s.width(),
            s.eps(),
            s.weightShift(),
            x,
            s.xStride(),
            w,
            b,
            residual,
            y,
            s.yStride(),
            mean,
            rstd));
  }

  /**
   * The gradient through a norm: {@code dy} has the stride of {@code y}, {@code x} is what the
   * forward call read.
   *
   * @param mean kept by the forward call of a LayerNorm; 0 for RMSNorm
   * @param dx may be {@code dy} itself unless it accumulates
   * @param dxStride elements from row to row of {@code dx}
   * @param accumulate whether the gradient is added to what stands in {@code dx}
   * @param dw fp32 [width] {@code +=}; 0: frozen
   * @param db fp32 [width] {@code +=}, LayerNorm only; 0: frozen
   */
  public void normBackward(
      NormShape s,
      long dy,
      long x,
      long w,
      long mean,
      long rstd,
      long dx,
      long dxStride,
      boolean accumulate,
      long dw,
      long db) {
    NativeStatus.check(
        Abi.lethe_norm_backward(
            backend.handle(),
            dtype.code(),
            s.kind().code(),
            s.rows(),
            s.groups(),
            s.width(),
            s.weightShift(),
            dy,
            s.yStride(),
            x,
            s.xStride(),
            w,
            mean,
            rstd,
            dx,
            dxStride,
            accumulate ? 1 : 0,
            dw,
            db));
  }

  /** {@code out[T,d] = scale·table[ids[T], d]}. */
  public void embeddingForward(
      long tokens, long d, long vocabulary, float scale, long table, long ids, long out) {
    NativeStatus.check(
        Abi.lethe_embedding_forward(
            backend.handle(), dtype.code(), tokens, d, vocabulary, scale, table, ids, out));
  }

  /** {@code dtable[V,d]} fp32 {@code +=} {@code scale} times the rows of {@code dout[T,d]}. */
  public void embeddingBackward(
      long tokens, long d, long vocabulary, float scale, long dout, long ids, long dtable) {
    NativeStatus.check(
        Abi.lethe_embedding_backward(
            backend.handle(), dtype.code(), tokens, d, vocabulary, scale, dout, ids, dtable));
  }

  /** {@code dst[i] = src[index[i]]} for {@code n} rows; strides in elements. */
  public void gatherRows(
      long n,
      long width,
      long srcRows,
      long src,
      long srcStride,
      long index,
      long dst,
      long dstStride) {
    NativeStatus.check(
        Abi.lethe_gather_rows(
            backend.handle(),
            dtype.code(),
            n,
            width,
            srcRows,
            src,
            srcStride,
            index,
            dst,
            dstStride));
  }

  /** {@code dst[index[i]] = src[i]} for {@code n} rows; strides in elements. */
  public void scatterRows(
      long n,
      long width,
      long dstRows,
      long src,
      long srcStride,
      long index,
      long dst,
      long dstStride) {
    NativeStatus.check(
        Abi.lethe_scatter_rows(
            backend.handle(),
            dtype.code(),
            n,
            width,
            dstRows,
            src,
            srcStride,
            index,
            dst,
            dstStride));
  }

  /**
   * Turns {@code x[T,heads,headDim]} in place by the angles of its positions; {@code inverse} turns
   * back.
   */
  public void rotary(
      long tokens,
      long heads,
      long headDim,
      long rotaryDim,
      long x,
      long stride,
      long positions,
      long positionCount,
      long cos,
      long sin,
      boolean inverse) {
    NativeStatus.check(
        Abi.lethe_rotary(
            backend.handle(),
            dtype.code(),
            tokens,
            heads,
            headDim,
            rotaryDim,
            x,
            stride,
            positions,
            positionCount,
            cos,
            sin,
            inverse ? 1 : 0));
  }

  /**
   * Causal attention over segments: {@code out[qRows,heads,headDim]}, {@code lse[qRows,heads]} fp32
   * when not 0.
   */
  public void attentionForward(AttentionShape s, long q, long k, long v, long out, long lse) {
    NativeStatus.check(
        Abi.lethe_attention_forward(
            backend.handle(),
            dtype.code(),
            s.heads(),
            s.kvHeads(),
            s.headDim(),
            s.scale(),
            s.window(),
            s.softCap(),
            s.segments(),
            s.segmentTable(),
            s.qRows(),
            q,
            s.qStride(),
            s.kRows(),
            k,
            s.kvStride(),
            v,
            s.kvStride(),
            out,
            lse));
  }

  /** Writes {@code dq, dk, dv} with the shapes and strides of {@code q, k, v}. */
  public void attentionBackward(
      AttentionShape s,
      long q,
      long k,
      long v,
      long out,
      long lse,
      long dout,
      long dq,
      long dk,
      long dv) {
    NativeStatus.check(
        Abi.lethe_attention_backward(
            backend.handle(),
            dtype.code(),
            s.heads(),
            s.kvHeads(),
            s.headDim(),
            s.scale(),
            s.window(),
            s.softCap(),
            s.segments(),
            s.segmentTable(),
            s.qRows(),
            q,
            s.qStride(),
            s.kRows(),
            k,
            s.kvStride(),
            v,
            s.kvStride(),
            out,
            lse,
            dout,
            dq,
            dk,
            dv));
  }

  /** {@code out[T,f] = activation(gate)·up} of {@code gateUp[T,2f]}. */
  public void gatedForward(Activation activation, long tokens, long f, long gateUp, long out) {
    NativeStatus.check(
        Abi.lethe_gated_forward(
            backend.handle(), dtype.code(), activation.code(), tokens, f, gateUp, out));
  }

  /** {@code dGateUp[T,2f]} from {@code dout[T,f]}; may be {@code gateUp} itself. */
  public void gatedBackward(
      Activation activation, long tokens, long f, long gateUp, long dout, long dGateUp) {
    NativeStatus.check(
        Abi.lethe_gated_backward(
            backend.handle(), dtype.code(), activation.code(), tokens, f, gateUp, dout, dGateUp));
  }

  /** {@code out[T,f] = activation(x[T,f])}; may be {@code x} itself. */
  public void activationForward(Activation activation, long tokens, long f, long x, long out) {
    NativeStatus.check(
        Abi.lethe_activation_forward(
            backend.handle(), dtype.code(), activation.code(), tokens, f, x, out));
  }

  /** {@code dx[T,f]} from {@code dout[T,f]} and the forward call's {@code x}; may be either. */
  public void activationBackward(
      Activation activation, long tokens, long f, long x, long dout, long dx) {
    NativeStatus.check(
        Abi.lethe_activation_backward(
            backend.handle(), dtype.code(), activation.code(), tokens, f, x, dout, dx));
  }

  /** Norm, clip coefficient and finite flag of {@code g[n]} into {@code state}. */
  public void gradientNorm(long n, long g, float maxNorm, long state) {
    NativeStatus.check(Abi.lethe_gradient_norm(backend.handle(), n, g, maxNorm, state));
  }

  /** One AdamW update of {@code n} parameters, or none when {@code state} says not finite. */
  public void adamw(
      long n,
      long nDecay,
      long p,
      long m,
      long v,
      long g,
      long copy,
      AdamWSettings settings,
      float learningRate,
      long state) {
    NativeStatus.check(
        Abi.lethe_adamw(
            backend.handle(),
            dtype.code(),
            n,
            nDecay,
            p,
            m,
            v,
            g,
            copy,
            learningRate,
            settings.beta1(),
            settings.beta2(),
            settings.eps(),
            settings.weightDecay(),
            state));
  }
}
