package org.lethe.kernels;

import org.bytedeco.javacpp.LongPointer;
import org.lethe.internal.abi.Abi;

/**
 * The ops of {@code lethe.h} that begin with {@code lethe_head}: the same names behind that,
 * argument order and shapes. Only the backend's thread may call them.
 */
public final class HeadOps {
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

  private static final int KIND_FIELD = 2;

  private static final int MIX_PARAMETER = 2;

  private final Backend backend;
  private final Dtype dtype;

  /** Those of a backend, for one storage. */
  HeadOps(Backend backend, Dtype storage) {
    this.backend = backend;
    this.dtype = storage;
  }

  /** {@code mean[d]} fp32: the mean row of {@code w[V,d]}. */
  public void mean(long d, long vocabulary, long w, long mean) {
    NativeStatus.check(Abi.lethe_head_mean(backend.handle(), dtype.code(), d, vocabulary, w, mean));
  }

  /**
   * The least workspace the head can run with, and the most it has use for with {@code n} rows, in
   * bytes.
   */
  public WorkspaceBytes workspace(long n, long d, long vocabulary) {
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
   * @param mean of {@link #mean}; 0: summed from the logits
   * @param rowParams fp32 [rows, {@link #ROW_PARAMS}]; 0: temperature 1 and nothing else
   * @param dhRows 0: statistics only
   */
  public void forward(
      Shape s,
      Counts counts,
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
   * {@link #forward} with chunks of several sizes, then with several algorithms for its products,
   * each timed on the device; the fastest are set as by {@link #setChunk} and {@link #setTiles}.
   * LETHE_UNSUPPORTED on the CPU.
   *
   * @return the rows of a chunk; 0 where the default is the fastest
   */
  public long tune(Shape s, long h, long w, long mean, long rows, long stats, long dhRows) {
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
  public void setChunk(long d, long vocabulary, long rows) {
    NativeStatus.check(
        Abi.lethe_head_set_chunk(backend.handle(), dtype.code(), d, vocabulary, rows));
  }

  /** What {@link #setChunk} or {@link #tune} has set. */
  public long chunk(long d, long vocabulary) {
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
  public void setTiles(long d, long vocabulary, Tiles tiles) {
    NativeStatus.check(
        Abi.lethe_head_set_tiles(
            backend.handle(), dtype.code(), d, vocabulary, tiles.logits(), tiles.gradient()));
  }

  /** What {@link #setTiles} or {@link #tune} has set. */
  public Tiles tiles(long d, long vocabulary) {
    try (LongPointer logits = new LongPointer(1);
        LongPointer gradient = new LongPointer(1)) {
      NativeStatus.check(
          Abi.lethe_head_tiles(backend.handle(), dtype.code(), d, vocabulary, logits, gradient));
      return new Tiles(logits.get(), gradient.get());
    }
  }

  /** {@code dh[sources,d]}: each source's rows times their coefficients, summed in row order. */
  public void combine(
      long n, long sources, long d, long rows, long coefficient, long dhRows, long dh) {
    NativeStatus.check(
        Abi.lethe_head_combine(
            backend.handle(), dtype.code(), n, sources, d, rows, coefficient, dhRows, dh));
  }

  /**
   * {@link #combine} and, without rounding in between, {@link Ops#normBackward}: {@code
   * dx[sources,d]} from {@code n} head rows, with the shape's rows as sources.
   *
   * @param s one group of packed rows
   * @param x what the norm read, [sources, d]
   * @param mean of the forward pass, LayerNorm only; else 0
   * @param dw fp32 [d], added to; 0: not wanted
   * @param db fp32 [d], added to, LayerNorm only; 0: not wanted
   */
  public void normBackward(
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
  public void backward(
      Shape s,
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
  public void sample(Shape s, long h, long w, Sampling sampling, long draws, long ids) {
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

  /** Places in the matrix library's lists of algorithms, one for each product of the head. */
  public record Tiles(long logits, long gradient) {}

  /**
   * The sizes of a head call: {@code rows} records over {@code h[sources,d]} and {@code w[V,d]}.
   *
   * @param bias [V] in storage; 0: none
   * @param softCap a logit z becomes softCap·tanh(z/softCap); 0: none
   */
  public record Shape(
      long rows,
      long sources,
      long d,
      long vocabulary,
      long bias,
      float softCap,
      long workspace,
      long workspaceBytes) {

    /** No bias and no soft cap. */
    public Shape(
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
  public record Counts(long references, long seconds) {
    /**
     * The counts of rows.
     *
     * @param records their {@link #ROW_FIELDS} each
     * @param parameters their {@link #ROW_PARAMS} each; empty: the default ones
     */
    public static Counts of(int[] records, float[] parameters) {
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
      return new Counts(references, seconds);
    }
  }

  /** Bytes that the head works with: the least it can do with, and what more would be of no use. */
  public record WorkspaceBytes(long least, long most) {}

  /** {@code topK} 0 and {@code topP} 1 keep the whole vocabulary. */
  public record Sampling(float temperature, int topK, float topP, long seed) {}
}
