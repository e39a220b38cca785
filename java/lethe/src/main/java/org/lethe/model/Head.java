package org.lethe.model;

import java.util.Arrays;
import org.lethe.UserException;
import org.lethe.kernels.Arena;
import org.lethe.kernels.Dtype;
import org.lethe.kernels.HeadOps;
import org.lethe.kernels.NormKind;
import org.lethe.kernels.Ops;
import org.lethe.kernels.Staging;

/**
 * The end of the model: final norm, logits, their statistics and the loss's gradient, for the rows
 * a loss looks at.
 *
 * <p>Frozen, one pass gives the statistics and each row's unscaled gradient; the method's
 * coefficients are applied afterwards. Trained, the first pass gives the statistics alone and a
 * second one, with the coefficients, the gradients of rows and weight. Only the backend's thread
 * may call it.
 */
public final class Head implements AutoCloseable {
  private static final long CUDA_MOST = 600_000_000;

  private final Model model;
  private final ModelConfig c;
  private final Ops ops;
  private final NormRunner norms;
  private final int sourceCapacity;
  private final int capacity;
  private final Arena arena;
  private final Staging staging;
  private final long rows;
  private final long parameters;
  private final long coefficients;
  private final long ones;
  private final long stats;
  private final long mean;
  private final long rstd;
  private final long normed;
  private final long dhRows;
  private final long draws;
  private final long sampled;
  private final long workspace;
  private final long workspaceBytes;
  private HeadRows current;
  private long stream;

  /**
   * Takes the memory of the largest batch.
   *
   * @param capacity the most rows, and the most sources, of one batch
   */
  public Head(Model model, int capacity) {
    this(model, capacity, capacity);
  }

  /**
   * Takes the memory of the largest batch.
   *
   * @param sourceCapacity the most sources of one batch
   * @param capacity the most rows, at least as many
   */
  public Head(Model model, int sourceCapacity, int capacity) {
    this(
        model,
        model.config(),
        model.ops().dtype(),
        workspace(model.ops()),
        sourceCapacity,
        capacity,
        new Arena(model.ops().backend(), "head"));
  }

  private Head(
      Model model,
      ModelConfig config,
      Dtype storage,
      Workspace workspaceOf,
      int sourceCapacity,
      int capacity,
      Arena arena) {
    this.model = model;
    this.c = config;
    this.ops = model == null ? null : model.ops();
    this.norms = model == null ? null : new NormRunner(model);
    this.sourceCapacity = sourceCapacity;
    this.capacity = capacity;
    this.arena = arena;
    long d = c.hiddenSize();
    this.rows = arena.reserve((long) capacity * HeadOps.ROW_FIELDS, Dtype.I32);
    this.parameters = arena.reserve((long) capacity * HeadRows.PARAMETERS, Dtype.F32);
    this.coefficients = arena.reserve(capacity, Dtype.F32);
    this.ones = arena.reserve(capacity, Dtype.F32);
    this.stats = arena.reserve((long) capacity * HeadOps.STATISTICS, Dtype.F32);
    this.mean = arena.reserve(sourceCapacity, Dtype.F32);
    this.rstd = arena.reserve(sourceCapacity, Dtype.F32);
    this.normed = arena.reserve(sourceCapacity * d, storage);
    this.dhRows = arena.reserve(capacity * d, storage);
    this.draws = arena.reserveBytes((long) capacity * Long.BYTES);
    this.sampled = arena.reserve(capacity, Dtype.I32);
    this.workspaceBytes = workspaceOf.bytes(capacity, d, c.vocabularySize());
    this.workspace = arena.reserveBytes(workspaceBytes);
    arena.allocate();
    this.staging = arena.counts() ? null : new Staging(capacity * HeadOps.STATISTICS * Float.BYTES);
    if (staging != null && model.trainsWeights()) {
      // The second pass of a head that trains has applied the coefficients already.
      float[] one = new float[capacity];
      Arrays.fill(one, 1f);
      staging.upload(one, capacity, arena.buffer(), ones);
    }
  }

  /** Bytes that a head of so many sources and rows will take. */
  public static long bytes(Model model, int sourceCapacity, int capacity) {
    return bytes(
        model.config(), model.ops().dtype(), workspace(model.ops()), sourceCapacity, capacity);
  }

  /** Bytes that a head of so many sources and rows will take, without a model. */
  public static long bytes(
      ModelConfig config, Dtype storage, Workspace workspaceOf, int sourceCapacity, int capacity) {
    return new Head(null, config, storage, workspaceOf, sourceCapacity, capacity, new Arena(null))
        .bytes();
  }

  /** Bytes of the workspace of a head, in which the chunk of logits stands. */
  @FunctionalInterface
  public interface Workspace {
    /** With so many rows, of width d, over a vocabulary of V. */
    long bytes(int rows, long d, int vocabulary);
  }

  /** What a CUDA device takes, where there is none to ask: cuda/head.cu's rule. */
  public static Workspace cudaWorkspace(Dtype storage) {
    return (rows, d, vocabulary) -> {
      long logits = (vocabulary + 3L) / 4 * 4 * Float.BYTES;
      long width = d * storage.bytes();
      long fitting = Math.max(2, Math.min(Math.max(rows, 2), CUDA_MOST / (2 * logits)));
      while (fitting > 2 && cudaBytes(fitting, logits, width) > CUDA_MOST) {
        fitting -= (fitting + 63) / 64;
      }
      return cudaBytes(Math.max(fitting, 2), logits, width);
    };
  }

  private static long cudaBytes(long rows, long logits, long width) {
    return aligned(2 * rows * logits) + aligned(2 * rows * width) + aligned(rows * width) + 256;
  }

  private static long aligned(long bytes) {
    return (bytes + 255) / 256 * 256;
  }

  /** What a device takes. */
  public static Workspace workspace(Ops ops) {
    return (rows, d, vocabulary) -> ops.head().workspace(rows, d, vocabulary).most();
  }

  /** The most rows of a pass. */
  public int capacity() {
    return capacity;
  }

  /** Bytes of its memory on the device. */
  public long bytes() {
    return arena.bytes();
  }

  /**
   * Keeps what another pass gives, through the final norm; called with each pass, before {@link
   * #forward} with the same rows.
   *
   * @param x the pass's residual stream after the last layer at its sources, [sources, d]
   * @param pass from 0, by {@link HeadRows#passTokens}
   */
  public void take(long x, HeadRows headRows, int pass) {
    requireRoom(headRows);
    int first = headRows.firstSource(pass);
    int count = headRows.passTokens().get(pass).length;
    NormRunner.Kept nothing = NormRunner.Kept.NOTHING;
    norms.forward(c.modules().finalNorm(), count, x, 0, normedAt(first), nothing);
  }

  /**
   * Statistics of every row, [rows, {@link HeadOps#STATISTICS}]; with {@code gradients} also, when
   * the head is frozen, the rows' unscaled gradients for {@link #backward}.
   *
   * @param x the residual stream after the last layer at the batch's own sources, [sources, d]
   */
  public float[] forward(long x, HeadRows headRows, boolean gradients) {
    upload(headRows);
    run(x, gradients);
    return statistics();
  }

  /** Takes rows to the device, for {@link #run} and what follows it. */
  public void upload(HeadRows headRows) {
    requireRoom(headRows);
    current = headRows;
    staging.upload(headRows.records(), headRows.records().length, arena.buffer(), rows);
    float[] ofRows = headRows.parameters();
    if (ofRows.length > 0) {
      staging.upload(ofRows, ofRows.length, arena.buffer(), parameters);
    }
  }

  /**
   * What {@link #forward} does between the rows' upload and the statistics: ops alone, which a
   * graph can capture.
   */
  public void run(long x, boolean gradients) {
    HeadRows headRows = current;
    stream = x;
    int n = headRows.rows();
    int s = headRows.sources();
    int own = headRows.sourceTokens().length;
    norms.forward(c.modules().finalNorm(), own, x, 0, normedAt(0), kept());
    ops.head()
        .forward(
            shape(n, s),
            headRows.counts(),
            arena.at(normed),
            model.headWeight(),
            model.headMean(),
            arena.at(rows),
            parameters(headRows),
            arena.at(stats),
            gradients && !model.trainsWeights() ? arena.at(dhRows) : 0);
  }

  /** The statistics of the rows that were run last. */
  public float[] statistics() {
    float[] statistics = new float[current.rows() * HeadOps.STATISTICS];
    staging.download(arena.buffer(), stats, statistics, statistics.length);
    return statistics;
  }

  /**
   * Measures how many rows of logits should exist at a time with this model on this device, on as
   * many rows as there is memory for, and sets it for every head of the same shape there.
   *
   * @return the rows; 0 where the backend's own choice is the fastest
   */
  public long tune() {
    int n = capacity;
    int s = Math.min(sourceCapacity, n);
    int[] records = new int[n * HeadOps.ROW_FIELDS];
    Arrays.fill(records, -1);
    for (int row = 0; row < n; row++) {
      records[row * HeadOps.ROW_FIELDS] = row % s;
      records[row * HeadOps.ROW_FIELDS + 1] = 0;
      records[row * HeadOps.ROW_FIELDS + 2] = HeadOps.ROW_NLL;
    }
    staging.upload(records, records.length, arena.buffer(), rows);
    ops.randomNormal((long) s * c.hiddenSize(), 0, 0, 1, arena.at(normed));
    return ops.head()
        .tune(
            shape(n, s),
            arena.at(normed),
            model.headWeight(),
            model.headMean(),
            arena.at(rows),
            arena.at(stats),
            arena.at(dhRows));
  }

  /**
   * Writes the gradient at the residual stream of the trained sources, for {@link
   * Decoder#backward}.
   *
   * @param coefficient d(loss)/d(the row's scalar), one per row of the last {@link #forward}
   */
  public void backward(Decoder decoder, float[] coefficient) {
    uploadCoefficients(coefficient);
    runBackward(decoder);
  }

  /** Takes the coefficients of {@link #backward} to the device. */
  public void uploadCoefficients(float[] coefficient) {
    staging.upload(coefficient, current.trainedRows(), arena.buffer(), coefficients);
  }

  /** {@link #backward} with the coefficients that were uploaded: ops alone. */
  public void runBackward(Decoder decoder) {
    int n = current.trainedRows();
    int s = current.trainedSources();
    if (model.trainsWeights()) {
      ops.head()
          .backward(
              shape(n, s),
              arena.at(normed),
              model.headWeight(),
              arena.at(rows),
              parameters(current),
              arena.at(coefficients),
              arena.at(dhRows),
              model.headGradient(),
              c.ends().headBias() ? model.gradient(ParameterNames.HEAD_BIAS) : 0);
    }
    norms.headBackward(
        c.modules().finalNorm(),
        s,
        n,
        arena.at(rows),
        arena.at(model.trainsWeights() ? ones : coefficients),
        arena.at(dhRows),
        stream,
        kept(),
        decoder.residualGradient());
    FusedUpdate fused = model.fusedUpdate();
    if (fused != null) {
      fused.endDone();
    }
  }

  private long normedAt(int source) {
    return arena.at(normed + (long) source * c.hiddenSize() * ops.dtype().bytes());
  }

  /** Where the rows' parameters lie; 0 where all are the default ones. */
  private long parameters(HeadRows headRows) {
    return headRows.parameters().length > 0 ? arena.at(parameters) : 0;
  }

  /** Greedy choice per row of the last {@link #forward}: the argmax column of its statistics. */
  static int argmax(float[] statistics, int row) {
    return (int) statistics[row * HeadOps.STATISTICS + HeadOps.ARGMAX];
  }

  /** One drawn token for each of the first {@code n} sources of the last {@link #forward}. */
  int[] sample(int n, HeadOps.Sampling sampling, long[] counters) {
    staging.upload(counters, n, arena.buffer(), draws);
    ops.head()
        .sample(
            shape(n, n),
            arena.at(normed),
            model.headWeight(),
            sampling,
            arena.at(draws),
            arena.at(sampled));
    int[] ids = new int[n];
    staging.download(arena.buffer(), sampled, ids, n);
    return ids;
  }

  private NormRunner.Kept kept() {
    return new NormRunner.Kept(
        c.norms().kind() == NormKind.LAYER ? arena.at(mean) : 0, arena.at(rstd));
  }

  private void requireRoom(HeadRows headRows) {
    if (headRows.rows() > capacity || headRows.sources() > sourceCapacity) {
      throw new UserException(
          headRows.rows()
              + " head rows on "
              + headRows.sources()
              + " positions exceed the "
              + capacity
              + " on "
              + sourceCapacity
              + " that memory was taken for");
    }
  }

  private HeadOps.Shape shape(int n, int s) {
    return new HeadOps.Shape(
        n,
        s,
        c.hiddenSize(),
        c.vocabularySize(),
        c.ends().headBias() ? model.weight(ParameterNames.HEAD_BIAS) : 0,
        c.ends().logitSoftCap(),
        arena.at(workspace),
        workspaceBytes);
  }

  @Override
  public void close() {
    staging.close();
    arena.close();
  }
}
