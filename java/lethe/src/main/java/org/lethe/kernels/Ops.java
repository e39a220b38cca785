package org.lethe.kernels;

import org.bytedeco.javacpp.LongPointer;
import org.lethe.internal.abi.Abi;

/**
 * One checked method per op of {@code lethe.h}: the same names, argument order and shapes, which
 * that header documents.
 *
 * <p>Operands are refs ({@link Buffer#at}); "storage" is the dtype these ops were made for. Only
 * the backend's thread may call it.
 */
public final class Ops {
  /**
   * Ints of one attention segment: first query row, queries, first own key row, own keys, first
   * parent key row, parent keys.
   */
  public static final int SEGMENT_FIELDS = Abi.LETHE_SEGMENT_FIELDS;

  /**
   * Ints of one head row: source, label or -1, kind, reference source or -1, second reference
   * source or -1.
   */
  public static final int ROW_FIELDS = Abi.LETHE_ROW_FIELDS;

  /** Floats of one head row's parameters: temperature, label shift, mix, epsilon. */
  public static final int ROW_PARAMS = Abi.LETHE_ROW_PARAMS;

  /** Floats of one head row's statistics. */
  public static final int STATISTICS = Abi.LETHE_STATISTICS;

  /** Column of the greedy choice in a row's statistics. */
  public static final int ARGMAX = Abi.LETHE_STAT_ARGMAX;

  /** Column of a row's statistics: the reference's most likely token. */
  public static final int REFERENCE_ARGMAX = Abi.LETHE_STAT_REFERENCE_ARGMAX;

  /** Kind of the rows whose value is the label's negative log-likelihood. */
  public static final int ROW_NLL = Abi.LETHE_ROW_NLL;

  /** Kind of the rows without a gradient. */
  public static final int ROW_STATISTICS = Abi.LETHE_ROW_STATISTICS;

  /** Kind of the rows that compare with a reference, in the direction of KL(reference‖p). */
  public static final int ROW_REFERENCE_KL = Abi.LETHE_ROW_REFERENCE_KL;

  /** Kind of the rows that compare with a reference, in the direction of KL(p‖reference). */
  public static final int ROW_KL_REFERENCE = Abi.LETHE_ROW_KL_REFERENCE;

  /** Places in an update's state. */
  public static final int UPDATE_NORM = 0;

  /** Where an update's state says whether its gradient was finite: 1 or 0. */
  public static final int UPDATE_FINITE = 2;

  /** Floats of an update's state: norm, clip coefficient, finite, steps applied, and spare. */
  public static final int UPDATE_STATE = Abi.LETHE_UPDATE_STATE;

  private static final int KIND_FIELD = 2;
  private static final int MIX_PARAMETER = 2;

  private final Backend backend;
  private final Dtype dtype;
  private final LongPointer ticket = new LongPointer(1);

  /**
   * The ops of a backend, for one storage.
   *
   * @param storage {@link Dtype#F32} or {@link Dtype#BF16}: how weights and activations are stored
   */
  public Ops(Backend backend, Dtype storage) {
    this.backend = backend;
    this.dtype = storage;
  }

  /** The device they run on. */
  public Backend backend() {
    return backend;
  }

  /** The storage of weights and activations. */
  public Dtype dtype() {
    return dtype;
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
   * A weight {@code w[out,in]} and a bias {@code b[out]} (0: none) in storage; {@code dw[out,in]}
   * and {@code db[out]} fp32 receive their gradients, when not 0.
   */
  public long linearCreate(long out, long in, long w, long dw, long b, long db) {
    try (LongPointer id = new LongPointer(1)) {
      NativeStatus.check(
          Abi.lethe_linear_create(backend.handle(), dtype.code(), out, in, w, dw, b, db, id));
      return id.get();
    }
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

  /**
   * How the device wants a frozen weight {@code [out,in]} to lie whose adapters have {@code rank}
   * ranks in all: {@code in} and 0 where it has no use for more.
   */
  public Spare linearSpare(long out, long in, long rank) {
    try (LongPointer stride = new LongPointer(1);
        LongPointer rows = new LongPointer(1)) {
      NativeStatus.check(
          Abi.lethe_linear_spare(backend.handle(), dtype.code(), out, in, rank, stride, rows));
      return new Spare(stride.get(), rows.get());
    }
  }

  /** {@link #linearCreate} for a frozen weight that lies so; its adapters must fit. */
  public long linearCreateStrided(long out, long in, Spare spare, long w, long b) {
    try (LongPointer id = new LongPointer(1)) {
      NativeStatus.check(
          Abi.lethe_linear_create_strided(
              backend.handle(), dtype.code(), out, in, spare.stride(), spare.rows(), w, b, id));
      return id.get();
    }
  }

  /**
   * A frozen weight {@code [out,in]} that stays in 4-bit codes, which {@link #linearNf4Part} gives,
   * and is dequantised into {@code scratch} when it is needed, where it lies as {@code spare} says;
   * linears may share that.
   */
  public long linearCreateNf4(long out, long in, Spare spare, long block, long scratch, long b) {
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
  public void linearNf4Part(
      long linear, long firstOut, long partOut, long packed, Nf4Scales scales) {
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
  public void linearAdapter(
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

  /** Frees what {@link #linearCreate} made; the weights stay. */
  public void linearClose(long linear) {
    NativeStatus.check(Abi.lethe_linear_close(backend.handle(), linear));
  }

  /**
   * {@code y[T,out] = x[T,in]·Wᵀ + b (+ residual) (+ adapters, on the first adapted rows)}; keeps
   * {@code u[adapted,R]}.
   *
   * @param rowKeys uint64 [adapted], the counters of the rows' dropout masks; 0: no dropout
   */
  public void linearForward(
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
  public void linearBackward(
      long linear, long tokens, long x, long u, long dy, long rowKeys, long du, long dx) {
    NativeStatus.check(
        Abi.lethe_linear_backward(backend.handle(), linear, tokens, x, u, dy, rowKeys, du, dx));
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

  /** {@code mean[d]} fp32: the mean row of {@code w[V,d]}. */
  public void headMean(long d, long vocabulary, long w, long mean) {
    NativeStatus.check(Abi.lethe_head_mean(backend.handle(), dtype.code(), d, vocabulary, w, mean));
  }

  /**
   * The least workspace the head can run with, and the most it has use for with {@code n} rows, in
   * bytes.
   */
  public WorkspaceBytes headWorkspace(long n, long d, long vocabulary) {
    try (LongPointer least = new LongPointer(1);
        LongPointer most = new LongPointer(1)) {
      NativeStatus.check(
          Abi.lethe_head_workspace(backend.handle(), dtype.code(), n, d, vocabulary, least, most));
      return new WorkspaceBytes(least.get(), most.get());
    }
  }

  /**
   * Statistics and unscaled gradients of a frozen head, in one pass.
   *
   * @param counts of the rows
   * @param mean of {@link #headMean}; 0: summed from the logits
   * @param rowParams fp32 [rows, {@link #ROW_PARAMS}]; 0: temperature 1 and nothing else
   * @param dhRows 0: statistics only
   */
  public void headForward(
      HeadShape s,
      HeadCounts counts,
      long h,
      long w,
      long mean,
      long rows,
      long rowParams,
      long stats,
      long dhRows) {
    NativeStatus.check(
        Abi.lethe_head_forward(
            backend.handle(),
            dtype.code(),
            s.rows(),
            s.sources(),
            s.d(),
            s.vocabulary(),
            counts.references(),
            counts.seconds(),
            h,
            w,
            s.bias(),
            s.softCap(),
            mean,
            rows,
            rowParams,
            stats,
            dhRows,
            s.workspace(),
            s.workspaceBytes()));
  }

  /**
   * {@link #headForward} with chunks of several sizes, then with several algorithms for its
   * products, each timed on the device; the fastest are set as by {@link #headSetChunk} and {@link
   * #headSetTiles}. LETHE_UNSUPPORTED on the CPU.
   *
   * @return the rows of a chunk; 0 where the default is the fastest
   */
  public long headTune(HeadShape s, long h, long w, long mean, long rows, long stats, long dhRows) {
    try (LongPointer chunk = new LongPointer(1)) {
      NativeStatus.check(
          Abi.lethe_head_tune(
              backend.handle(),
              dtype.code(),
              s.rows(),
              s.sources(),
              s.d(),
              s.vocabulary(),
              0,
              0,
              h,
              w,
              s.bias(),
              s.softCap(),
              mean,
              rows,
              0,
              stats,
              dhRows,
              s.workspace(),
              s.workspaceBytes(),
              chunk));
      return chunk.get();
    }
  }

  /**
   * The most rows of a chunk of the head's passes over weights {@code [V,d]}; 0: the default.
   * LETHE_UNSUPPORTED on the CPU.
   */
  public void headSetChunk(long d, long vocabulary, long rows) {
    NativeStatus.check(
        Abi.lethe_head_set_chunk(backend.handle(), dtype.code(), d, vocabulary, rows));
  }

  /** What {@link #headSetChunk} or {@link #headTune} has set. */
  public long headChunk(long d, long vocabulary) {
    try (LongPointer rows = new LongPointer(1)) {
      NativeStatus.check(Abi.lethe_head_chunk(backend.handle(), dtype.code(), d, vocabulary, rows));
      return rows.get();
    }
  }

  /**
   * Which of the matrix library's algorithms, whose tiles differ, take the products of the head's
   * passes over weights {@code [V,d]}; 0, or a place that its list does not have: the recommended
   * one. LETHE_UNSUPPORTED on the CPU.
   */
  public void headSetTiles(long d, long vocabulary, HeadTiles tiles) {
    NativeStatus.check(
        Abi.lethe_head_set_tiles(
            backend.handle(), dtype.code(), d, vocabulary, tiles.logits(), tiles.gradient()));
  }

  /** What {@link #headSetTiles} or {@link #headTune} has set. */
  public HeadTiles headTiles(long d, long vocabulary) {
    try (LongPointer logits = new LongPointer(1);
        LongPointer gradient = new LongPointer(1)) {
      NativeStatus.check(
          Abi.lethe_head_tiles(backend.handle(), dtype.code(), d, vocabulary, logits, gradient));
      return new HeadTiles(logits.get(), gradient.get());
    }
  }

  /** Places in the matrix library's lists of algorithms, one for each product of the head. */
  public record HeadTiles(long logits, long gradient) {}

  /** {@code dh[sources,d]}: each source's rows times their coefficients, summed in row order. */
  public void headCombine(
      long n, long sources, long d, long rows, long coefficient, long dhRows, long dh) {
    NativeStatus.check(
        Abi.lethe_head_combine(
            backend.handle(), dtype.code(), n, sources, d, rows, coefficient, dhRows, dh));
  }

  /**
   * {@link #headCombine} and, without rounding in between, {@link #normBackward}: {@code
   * dx[sources,d]} from {@code n} head rows, with the shape's rows as sources.
   *
   * @param s one group of packed rows
   * @param x what the norm read, [sources, d]
   * @param mean of the forward pass, LayerNorm only; else 0
   * @param dw fp32 [d], added to; 0: not wanted
   * @param db fp32 [d], added to, LayerNorm only; 0: not wanted
   */
  public void headNormBackward(
      NormShape s,
      long n,
      long rows,
      long coefficient,
      long dhRows,
      long x,
      long w,
      long mean,
      long rstd,
      long dx,
      long dw,
      long db) {
    NativeStatus.check(
        Abi.lethe_head_norm_backward(
            backend.handle(),
            dtype.code(),
            s.kind().code(),
            n,
            s.rows(),
            s.width(),
            s.weightShift(),
            rows,
            coefficient,
            dhRows,
            x,
            w,
            mean,
            rstd,
            dx,
            dw,
            db));
  }

  /**
   * The second pass of a head that trains: scaled row gradients, {@code dw[V,d] +=} and, when not
   * 0, the bias's {@code db[V] +=}, both fp32.
   */
  public void headBackward(
      HeadShape s,
      long h,
      long w,
      long rows,
      long rowParams,
      long coefficient,
      long dhRows,
      long dw,
      long db) {
    NativeStatus.check(
        Abi.lethe_head_backward(
            backend.handle(),
            dtype.code(),
            s.rows(),
            s.sources(),
            s.d(),
            s.vocabulary(),
            h,
            w,
            s.bias(),
            s.softCap(),
            rows,
            rowParams,
            coefficient,
            dhRows,
            dw,
            db,
            s.workspace(),
            s.workspaceBytes()));
  }

  /**
   * One drawn token per row of {@code h[n,d]}; {@code draws[n]} int64 are the counters of the
   * random stream.
   */
  public void headSample(HeadShape s, long h, long w, Sampling sampling, long draws, long ids) {
    NativeStatus.check(
        Abi.lethe_head_sample(
            backend.handle(),
            dtype.code(),
            s.rows(),
            s.d(),
            s.vocabulary(),
            h,
            w,
            s.bias(),
            s.softCap(),
            sampling.temperature(),
            sampling.topK(),
            sampling.topP(),
            sampling.seed(),
            draws,
            ids,
            s.workspace(),
            s.workspaceBytes()));
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

  /**
   * The sizes of a norm: {@code rows} rows of {@code groups} vectors of {@code width} elements side
   * by side; strides in elements.
   *
   * @param weightShift is added to the weight: 1 for Gemma's 1 + w
   */
  public record NormShape(
      NormKind kind,
      long rows,
      long groups,
      long width,
      float eps,
      float weightShift,
      long xStride,
      long yStride) {

    /** RMSNorm over whole packed rows, as Llama has it. */
    public static NormShape rms(long rows, long width, float eps) {
      return new NormShape(NormKind.RMS, rows, 1, width, eps, 0, width, width);
    }
  }

  /**
   * The sizes of an attention call: {@code q[qRows,heads,headDim]}, {@code k} and {@code v
   * [kRows,kvHeads,headDim]}, strides in elements; {@code segmentTable[segments,6]} int32.
   *
   * @param window how many keys of its list, its own included, a query sees; 0: all
   * @param softCap a scaled score s becomes softCap·tanh(s/softCap); 0: none
   */
  public record AttentionShape(
      long heads,
      long kvHeads,
      long headDim,
      float scale,
      long segments,
      long segmentTable,
      long qRows,
      long qStride,
      long kRows,
      long kvStride,
      long window,
      float softCap) {

    /** No window and no soft cap. */
    public AttentionShape(
        long heads,
        long kvHeads,
        long headDim,
        float scale,
        long segments,
        long segmentTable,
        long qRows,
        long qStride,
        long kRows,
        long kvStride) {
      this(
          heads,
          kvHeads,
          headDim,
          scale,
          segments,
          segmentTable,
          qRows,
          qStride,
          kRows,
          kvStride,
          0,
          0);
    }
  }

  /**
   * The sizes of a head call: {@code rows} records over {@code h[sources,d]} and {@code w[V,d]}.
   *
   * @param bias [V] in storage; 0: none
   * @param softCap a logit z becomes softCap·tanh(z/softCap); 0: none
   */
  public record HeadShape(
      long rows,
      long sources,
      long d,
      long vocabulary,
      long bias,
      float softCap,
      long workspace,
      long workspaceBytes) {

    /** No bias and no soft cap. */
    public HeadShape(
        long rows, long sources, long d, long vocabulary, long workspace, long workspaceBytes) {
      this(rows, sources, d, vocabulary, 0, 0, workspace, workspaceBytes);
    }
  }

  /**
   * How many head rows have a reference, and how many of those mix it with a second one.
   *
   * @param references rows of the two kinds with a reference
   * @param seconds those of them with a mix above 0
   */
  public record HeadCounts(long references, long seconds) {
    /**
     * The counts of rows.
     *
     * @param records their {@link #ROW_FIELDS} each
     * @param parameters their {@link #ROW_PARAMS} each; empty: the default ones
     */
    public static HeadCounts of(int[] records, float[] parameters) {
      long references = 0;
      long seconds = 0;
      for (int row = 0; row < records.length / ROW_FIELDS; row++) {
        int kind = records[row * ROW_FIELDS + KIND_FIELD];
        if (kind == ROW_REFERENCE_KL || kind == ROW_KL_REFERENCE) {
          references++;
          boolean mixes = parameters.length > 0 && parameters[row * ROW_PARAMS + MIX_PARAMETER] > 0;
          seconds += mixes ? 1 : 0;
        }
      }
      return new HeadCounts(references, seconds);
    }
  }

  /**
   * The scales of 4-bit blocks: {@code absmax} alone, or, where that is 0, those of double
   * quantisation.
   *
   * @param absmax fp32 [blocks]
   * @param nested bytes [blocks]
   * @param nestedMap fp32 [256]
   * @param nestedAbsmax fp32, one for 256 blocks
   */
  public record Nf4Scales(
      long absmax, long nested, long nestedMap, long nestedAbsmax, float nestedOffset) {
    /** Scales as they are. */
    public static Nf4Scales plain(long absmax) {
      return new Nf4Scales(absmax, 0, 0, 0, 0);
    }
  }

  /** Bytes that the head works with: the least it can do with, and what more would be of no use. */
  public record WorkspaceBytes(long least, long most) {}

  /** {@code topK} 0 and {@code topP} 1 keep the whole vocabulary. */
  public record Sampling(float temperature, int topK, float topP, long seed) {}

  /**
   * AdamW (Loshchilov and Hutter 2019): decay rates of both moments, eps, decoupled weight decay.
   */
  public record AdamWSettings(float beta1, float beta2, float eps, float weightDecay) {}
}
