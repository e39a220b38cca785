package org.lethe.nd4j;

import java.util.Arrays;
import java.util.List;
import org.lethe.UserException;
import org.lethe.kernels.Arena;
import org.lethe.kernels.Backend;
import org.lethe.kernels.Buffer;
import org.lethe.kernels.Dtype;
import org.lethe.kernels.HeadOps;
import org.lethe.kernels.Ops;
import org.lethe.kernels.Staging;
import org.lethe.method.RowKind;
import org.lethe.method.RowStatistics;
import org.nd4j.linalg.api.ndarray.INDArray;

/**
 * Lethe's fused language-model head on INDArrays: from hidden states [N, d] and a weight [V, d] the
 * statistics of the logits' rows and the loss's gradient with respect to the hidden states, without
 * the logits [N, V] ever existing whole. Everything is read and written where it stands.
 *
 * <p>A frozen head takes one pass: {@link #forward}, then a loss makes one coefficient per row of
 * the statistics (Lethe's methods do: {@link org.lethe.method.MethodStep#add}), then {@link
 * #backward(double[], INDArray)} writes dH, which a DL4J or SameDiff model takes as the gradient of
 * its output. A head that trains takes two: {@link #statistics}, then {@link #backward(double[],
 * INDArray, INDArray, INDArray)}, which adds to dW as well.
 *
 * <p>Hidden states and weight are both FLOAT or both BFLOAT16; products are summed, and statistics
 * kept, in fp32. The weight may be changed between calls. Same inputs give the same bits. Only the
 * backend's thread may call this class; the arrays of a call must not be closed during it.
 */
public final class Nd4jHead implements AutoCloseable {
  private final Backend backend;
  private final Ops ops;
  private final INDArray weight;
  private final long d;
  private final int vocabulary;
  private final int capacity;
  private final Arena arena;
  private final Staging staging;
  private final long records;
  private final long coefficients;
  private final long stats;
  private final long dhRows;
  private final long workspace;
  private final long workspaceBytes;
  private int rows = -1;
  private long sources;
  private boolean hasGradients;
  private boolean hasReferences;

  /**
   * Takes the memory of the largest call: about {@code capacity · d} numbers and at most 32 MiB for
   * logits (more where even one tile of them is larger).
   *
   * @param weight [V, d], FLOAT or BFLOAT16, dense; not copied, and not closed by {@link #close}
   * @param capacity the most rows of a call, at least 1
   */
  public Nd4jHead(Backend backend, INDArray weight, int capacity) {
    requireMatrix(weight, "the head's weight");
    if (capacity < 1) {
      throw new UserException("a capacity of " + capacity + " rows is too small; give at least 1");
    }
    this.backend = backend;
    this.ops = new Ops(backend, floating(weight));
    this.weight = weight;
    this.d = weight.size(1);
    this.vocabulary = Math.toIntExact(weight.size(0));
    this.capacity = capacity;
    this.arena = new Arena(backend);
    this.records = arena.reserve((long) capacity * HeadOps.ROW_FIELDS, Dtype.I32);
    this.coefficients = arena.reserve(capacity, Dtype.F32);
    this.stats = arena.reserve((long) capacity * HeadOps.STATISTICS, Dtype.F32);
    this.dhRows = arena.reserve(capacity * d, ops.dtype());
    this.workspaceBytes = ops.head().workspace(capacity, d, vocabulary).most();
    this.workspace = arena.reserveBytes(workspaceBytes);
    arena.allocate();
    this.staging = new Staging(Math.multiplyExact(capacity, HeadOps.STATISTICS * Float.BYTES));
  }

  /** Bytes taken on the device. */
  public long bytes() {
    return arena.bytes();
  }

  /**
   * The statistics of each row, and its unscaled gradient for {@link #backward(double[],
   * INDArray)}.
   *
   * @param hidden [N, d], after the model's last norm; for kinds with a reference it also holds the
   *     reference's hidden states
   * @param headRows at most the capacity; rows of the statistics come in their order
   */
  public RowStatistics forward(INDArray hidden, List<HeadRow> headRows) {
    return run(hidden, headRows, true);
  }

  /** The statistics of each row, without gradients. */
  public RowStatistics statistics(INDArray hidden, List<HeadRow> headRows) {
    return run(hidden, headRows, false);
  }

  /**
   * Writes the gradient of a frozen head's loss with respect to the hidden states of the last
   * {@link #forward}.
   *
   * @param coefficient d(loss)/d(the scalar of the row's kind), one per row
   * @param dHidden [N, d] of the weight's type, overwritten: rows that no loss looks at become 0.
   *     It may be the hidden states themselves
   */
  public void backward(double[] coefficient, INDArray dHidden) {
    if (!hasGradients) {
      throw new UserException("no rows wait for coefficients; call forward first");
    }
    requireRows(coefficient);
    requireLike(dHidden, "the gradient");
    upload(coefficient);
    combine(dHidden);
  }

  /**
   * Writes the gradients of a head that trains, for the rows of the last {@link #statistics} or
   * {@link #forward}. Rows of the kinds with a reference have none.
   *
   * @param coefficient d(loss)/d(the scalar of the row's kind), one per row
   * @param hidden what the statistics were made from, unchanged
   * @param dHidden [N, d] of the weight's type, overwritten; may be {@code hidden}
   * @param dWeight [V, d] FLOAT, added to
   */
  public void backward(double[] coefficient, INDArray hidden, INDArray dHidden, INDArray dWeight) {
    if (rows < 0) {
      throw new UserException("no rows wait for coefficients; call statistics first");
    }
    requireRows(coefficient);
    requireLike(hidden, "the hidden states");
    requireLike(dHidden, "the gradient");
    requireMatrix(dWeight, "the weight's gradient");
    if (Nd4jArrays.dtype(dWeight) != Dtype.F32
        || dWeight.size(0) != vocabulary
        || dWeight.size(1) != d) {
      throw wrong(dWeight, "the weight's gradient", "FLOAT [" + vocabulary + ", " + d + "]");
    }
    if (hasReferences) {
      throw new UserException(
          "a head that trains has no reference to compare with; give rows of the other kinds");
    }
    // The row gradients make way for those with coefficients.
    hasGradients = false;
    upload(coefficient);
    try (Buffer h = Nd4jArrays.buffer(backend, hidden);
        Buffer w = Nd4jArrays.buffer(backend, weight);
        Buffer dw = Nd4jArrays.buffer(backend, dWeight)) {
      ops.head()
          .backward(
              shape(),
              h.at(0),
              w.at(0),
              arena.at(records),
              0,
              arena.at(coefficients),
              arena.at(dhRows),
              dw.at(0),
              0);
    }
    // The coefficients are in the row gradients already.
    double[] ones = new double[rows];
    Arrays.fill(ones, 1);
    upload(ones);
    combine(dHidden);
  }

  private RowStatistics run(INDArray hidden, List<HeadRow> headRows, boolean gradients) {
    requireHidden(hidden);
    if (headRows.isEmpty() || headRows.size() > capacity) {
      throw new UserException(
          headRows.size() + " rows are given to a head for 1 to " + capacity + "; split them");
    }
    int[] packed = pack(headRows, hidden.size(0));
    rows = -1;
    hasGradients = false;
    staging.upload(packed, packed.length, arena.buffer(), records);
    int n = headRows.size();
    HeadOps.Shape shape = shape(n, hidden.size(0));
    try (Buffer h = Nd4jArrays.buffer(backend, hidden);
        Buffer w = Nd4jArrays.buffer(backend, weight)) {
      // No mean row is kept: the weight belongs to others, who may change it.
      ops.head()
          .forward(
              shape,
              HeadOps.Counts.of(packed, new float[0]),
              h.at(0),
              w.at(0),
              0,
              arena.at(records),
              0,
              arena.at(stats),
              gradients ? arena.at(dhRows) : 0);
    }
    rows = n;
    sources = hidden.size(0);
    hasGradients = gradients;
    hasReferences = headRows.stream().anyMatch(row -> compares(row.kind()));
    float[] statistics = new float[n * HeadOps.STATISTICS];
    staging.download(arena.buffer(), stats, statistics, statistics.length);
    return new RowStatistics(statistics, vocabulary);
  }

  private void combine(INDArray dHidden) {
    try (Buffer dh = Nd4jArrays.buffer(backend, dHidden)) {
      ops.head()
          .combine(
              rows,
              sources,
              d,
              arena.at(records),
              arena.at(coefficients),
              arena.at(dhRows),
              dh.at(0));
    }
  }

  private void upload(double[] coefficient) {
    float[] single = new float[coefficient.length];
    for (int i = 0; i < single.length; i++) {
      single[i] = (float) coefficient[i];
    }
    staging.upload(single, single.length, arena.buffer(), coefficients);
  }

  private int[] pack(List<HeadRow> headRows, long hiddenRows) {
    int[] packed = new int[headRows.size() * HeadOps.ROW_FIELDS];
    int at = 0;
    for (HeadRow row : headRows) {
      boolean compares = compares(row.kind());
      if (row.kind() == RowKind.UNIFORM_KL_EPS) {
        throw new UserException(row + ": its kind needs an epsilon; take UNIFORM_KL");
      }
      requireIndex("source", row.source(), 0, hiddenRows, row);
      int leastLabel = row.kind() == RowKind.NLL ? 0 : HeadRow.NONE;
      requireIndex("label", row.label(), leastLabel, vocabulary, row);
      if (compares) {
        requireIndex("reference", row.reference(), 0, hiddenRows, row);
      }
      packed[at++] = row.source();
      packed[at++] = row.label();
      packed[at++] = row.kind().code();
      packed[at++] = compares ? row.reference() : HeadRow.NONE;
      packed[at++] = HeadRow.NONE;
    }
    return packed;
  }

  private static boolean compares(RowKind kind) {
    return kind == RowKind.REFERENCE_KL || kind == RowKind.KL_REFERENCE;
  }

  private static void requireIndex(String what, int value, int least, long end, HeadRow row) {
    if (value < least || value >= end) {
      throw new UserException(
          what + " " + value + " of " + row + " must be in [" + least + ", " + end + ")");
    }
  }

  private void requireRows(double[] coefficient) {
    if (coefficient.length != rows) {
      throw new UserException(
          coefficient.length + " coefficients are given for " + rows + " rows; give one per row");
    }
  }

  private void requireHidden(INDArray hidden) {
    requireMatrix(hidden, "the hidden states");
    if (Nd4jArrays.dtype(hidden) != ops.dtype() || hidden.size(1) != d) {
      throw wrong(
          hidden,
          "the hidden states",
          Nd4jArrays.dataType(ops.dtype()) + " [N, " + d + "], as the weight is");
    }
  }

  private void requireLike(INDArray array, String what) {
    requireMatrix(array, what);
    if (Nd4jArrays.dtype(array) != ops.dtype() || array.size(0) != sources || array.size(1) != d) {
      throw wrong(
          array,
          what,
          Nd4jArrays.dataType(ops.dtype()) + " [" + sources + ", " + d + "], as the last call's");
    }
  }

  private static void requireMatrix(INDArray array, String what) {
    if (array.rank() != 2) {
      throw wrong(array, what, "of rank 2: reshape it");
    }
  }

  private static UserException wrong(INDArray array, String what, String wanted) {
    return new UserException(what + ", " + Nd4jArrays.name(array) + ", must be " + wanted);
  }

  private static Dtype floating(INDArray weight) {
    Dtype dtype = Nd4jArrays.dtype(weight);
    if (dtype == Dtype.I32) {
      throw wrong(weight, "the head's weight", "FLOAT or BFLOAT16");
    }
    return dtype;
  }

  private HeadOps.Shape shape() {
    return shape(rows, sources);
  }

  private HeadOps.Shape shape(long n, long hiddenRows) {
    return new HeadOps.Shape(n, hiddenRows, d, vocabulary, arena.at(workspace), workspaceBytes);
  }

  @Override
  public void close() {
    staging.close();
    arena.close();
  }
}
