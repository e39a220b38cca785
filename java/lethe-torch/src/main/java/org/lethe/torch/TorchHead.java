package org.lethe.torch;

import java.util.Arrays;
import org.bytedeco.pytorch.Tensor;
import org.bytedeco.pytorch.TensorOptions;
import org.bytedeco.pytorch.TensorVector;
import org.bytedeco.pytorch.global.torch;
import org.bytedeco.pytorch.global.torch.ScalarType;
import org.lethe.UserException;
import org.lethe.kernels.Arena;
import org.lethe.kernels.Backend;
import org.lethe.kernels.Dtype;
import org.lethe.kernels.HeadOps;
import org.lethe.kernels.Ops;
import org.lethe.method.RowStatistics;

/**
 * Lethe's fused head under a model written in libtorch: logits, their statistics and the loss's
 * gradient for the rows that a loss looks at, without [rows, V] logits ever existing whole.
 *
 * <pre>{@code
 * Tensor hidden = model.forward(ids);                       // [T, d], part of an autograd graph
 * RowStatistics statistics = head.forward(hidden, rows);
 * MethodStep objective = method.begin(Totals.of(sequences));
 * double[] coefficients = objective.add(statistics, sequences);
 * hidden.backward(head.backward(coefficients));             // dH, then the model's own backward
 * }</pre>
 *
 * <p>Hidden states, weight and gradient are used where they lie; see {@link #forward(Tensor,
 * Tensor, TorchRows)} for the one form that copies. Storage is fp32 or bf16, the same for both
 * tensors; statistics and sums are fp32. Gradients are exact for each {@link
 * org.lethe.method.RowKind} and are those of {@code head_forward}, {@code head_combine} and {@code
 * head_backward} in {@code lethe.h}. Nothing flows through the reference's hidden states.
 *
 * <p>Only the backend's thread may call it.
 */
public final class TorchHead implements AutoCloseable {
  private final Backend backend;
  private final Ops ops;
  private final SharedTensor weight;
  private final boolean trains;
  private final int capacity;
  private final int d;
  private final int vocabulary;
  private final Arena arena;
  private final long mean;
  private final long dhRows;
  private final long workspace;
  private final long workspaceBytes;
  private final HostRows host;
  private Pass pass;

  /** What a forward pass leaves for the backward pass. */
  private record Pass(int rows, long sources, long[] shape, SharedTensor hidden) {}

  private TorchHead(Backend backend, Tensor weight, int capacity, boolean trains) {
    TorchTensors.check("weight", weight);
    Dtype storage = TorchTensors.dtype(weight);
    if (weight.dim() != 2 || storage == Dtype.I32) {
      throw new UserException(
          "weight "
              + Arrays.toString(TorchTensors.shape(weight))
              + " is not a head's; give [V, d] in fp32 or bf16");
    }
    if (capacity < 1) {
      throw new UserException("the head is to take " + capacity + " rows; give at least 1");
    }
    this.backend = backend;
    this.ops = new Ops(backend, storage);
    this.trains = trains;
    this.capacity = capacity;
    this.vocabulary = Math.toIntExact(weight.size(0));
    this.d = Math.toIntExact(weight.size(1));
    this.arena = new Arena(backend);
    this.mean = arena.reserve(d, Dtype.F32);
    this.dhRows = arena.reserve((long) capacity * d, storage);
    this.workspaceBytes = ops.head().workspace(capacity, d, vocabulary).most();
    this.workspace = arena.reserveBytes(workspaceBytes);
    arena.allocate();
    this.host = new HostRows(backend, capacity);
    this.weight = TorchTensors.share(backend, weight);
    refresh();
  }

  /**
   * A head whose weight stays as it is: one pass gives statistics and gradients.
   *
   * @param weight [V, d], contiguous; held until {@link #close}. Whoever changes it calls {@link
   *     #refresh}
   * @param capacity the most rows of one pass; memory is taken now
   */
  public static TorchHead frozen(Backend backend, Tensor weight, int capacity) {
    return new TorchHead(backend, weight, capacity, false);
  }

  /**
   * A head whose weight trains: the forward pass gives statistics, the backward pass forms the
   * logits once more for the gradients of hidden states and weight.
   *
   * @param weight [V, d], contiguous; held until {@link #close}. It may change between passes
   * @param capacity the most rows of one pass; memory is taken now
   */
  public static TorchHead trained(Backend backend, Tensor weight, int capacity) {
    return new TorchHead(backend, weight, capacity, true);
  }

  /** Bytes of device memory, apart from the tensors. */
  public long bytes() {
    return arena.bytes();
  }

  /** Recomputes what a frozen head derives from its weight; to be called when it has changed. */
  public void refresh() {
    if (!trains) {
      ops.head().mean(d, vocabulary, weight.ref(), arena.at(mean));
    }
  }

  /**
   * Statistics of every row, and what {@link #backward(double[])} needs.
   *
   * @param hidden [..., d], contiguous, of the weight's dtype: the states after the final norm.
   *     Rows that compare with a reference find its states in the same tensor. Must not change
   *     before the backward pass of a trained head
   * @param rows at least one, at most the capacity
   */
  public RowStatistics forward(Tensor hidden, TorchRows rows) {
    forget();
    long sources = check("hidden", hidden);
    return run(hidden, sources, TorchTensors.shape(hidden), rows, sources, 0);
  }

  /**
   * The same with the reference's states in a tensor of their own. The head reads one table, so
   * both are copied, one behind the other: bytes moved once beside V multiplications for each
   * number. To copy nothing, run both models into one tensor and use {@link #forward(Tensor,
   * TorchRows)}.
   *
   * @param reference [..., d], contiguous, of the weight's dtype; {@link TorchRows}' references
   *     count its rows
   */
  public RowStatistics forward(Tensor hidden, Tensor reference, TorchRows rows) {
    forget();
    long sources = check("hidden", hidden);
    long references = check("reference", reference);
    try (Tensor mine = hidden.detach();
        Tensor flat = mine.view(-1, d);
        Tensor other = reference.detach();
        Tensor otherFlat = other.view(-1, d);
        TensorVector both = new TensorVector(flat, otherFlat);
        Tensor table = torch.vstack(both)) {
      return run(table, sources, TorchTensors.shape(hidden), rows, references, sources);
    }
  }

  /**
   * The gradient of the loss at the hidden states, for {@code hidden.backward}.
   *
   * @param coefficients d(loss)/d(the row's scalar), one per row of the last forward pass
   * @return of the hidden states' shape and dtype; 0 where no row looks. The caller's to close
   */
  public Tensor backward(double[] coefficients) {
    if (trains) {
      throw new UserException(
          "this head trains; give backward the tensor that takes the weight's gradient");
    }
    host.coefficients(coefficients, current().rows());
    return combined();
  }

  /**
   * The second pass of a head that trains.
   *
   * @param coefficients d(loss)/d(the row's scalar), one per row of the last forward pass
   * @param dWeight [V, d] fp32, contiguous, whatever the weight's dtype: the weight's gradient is
   *     added to it
   * @return as {@link #backward(double[])}
   */
  public Tensor backward(double[] coefficients, Tensor dWeight) {
    Pass p = current();
    if (!trains) {
      throw new UserException("this head is frozen; make it with TorchHead.trained");
    }
    TorchTensors.check("dWeight", dWeight);
    long[] shape = TorchTensors.shape(dWeight);
    if (dWeight.scalar_type().intern() != ScalarType.Float
        || !Arrays.equals(shape, new long[] {vocabulary, d})) {
      throw new UserException(
          "dWeight is "
              + Arrays.toString(shape)
              + " of "
              + dWeight.scalar_type()
              + "; give ["
              + vocabulary
              + ", "
              + d
              + "] of Float");
    }
    host.coefficients(coefficients, p.rows());
    try (SharedTensor dw = TorchTensors.share(backend, dWeight)) {
      ops.head()
          .backward(
              shape(p.rows(), p.sources()),
              p.hidden().ref(),
              weight.ref(),
              host.records(),
              0,
              host.coefficients(),
              arena.at(dhRows),
              dw.ref(),
              0);
    }
    // The coefficients are in the rows' gradients already.
    host.ones(p.rows());
    return combined();
  }

  private Tensor combined() {
    Pass p = current();
    ScalarType type = TorchTensors.scalarType(ops.dtype());
    long sources = Arrays.stream(p.shape()).reduce(1, (a, b) -> a * b) / d;
    try (TensorOptions options = new TensorOptions(type)) {
      Tensor gradient = torch.empty(p.shape(), options, null);
      try (SharedTensor dh = TorchTensors.share(backend, gradient)) {
        ops.head()
            .combine(
                p.rows(),
                sources,
                d,
                host.records(),
                host.coefficients(),
                arena.at(dhRows),
                dh.ref());
      }
      return gradient;
    }
  }

  private RowStatistics run(
      Tensor table,
      long sources,
      long[] shape,
      TorchRows rows,
      long references,
      long firstReference) {
    int n = rows.size();
    if (n < 1 || n > capacity) {
      throw new UserException(
          n
              + " rows for a head of "
              + capacity
              + "; give 1 to "
              + capacity
              + ", or make it larger");
    }
    refuseReferences(rows);
    int[] records =
        rows.records(
            Math.toIntExact(sources),
            Math.toIntExact(references),
            Math.toIntExact(firstReference),
            vocabulary);
    host.records(records);
    SharedTensor h = TorchTensors.share(backend, table);
    try {
      long tableRows = table.numel() / d;
      ops.head()
          .forward(
              shape(n, tableRows),
              HeadOps.Counts.of(records, new float[0]),
              h.ref(),
              weight.ref(),
              // A weight that trains changes between passes: then the mean is summed from the
              // logits.
              trains ? 0 : arena.at(mean),
              host.records(),
              0,
              host.statistics(),
              trains ? 0 : arena.at(dhRows));
      pass = new Pass(n, tableRows, shape, trains ? h : null);
      return new RowStatistics(host.statistics(n), vocabulary);
    } finally {
      if (!trains || pass == null) {
        h.close();
      }
    }
  }

  private void refuseReferences(TorchRows rows) {
    for (int row = 0; trains && row < rows.size(); row++) {
      if (TorchRows.needsReference(rows.kind(row))) {
        throw new UserException(
            "row "
                + row
                + " is "
                + rows.kind(row)
                + ", which a head that trains does not do; freeze the head (TorchHead.frozen)");
      }
    }
  }

  private long check(String what, Tensor states) {
    TorchTensors.check(what, states);
    long width = states.dim() == 0 ? 0 : states.size(-1);
    ScalarType type = TorchTensors.scalarType(ops.dtype());
    if (width != d || states.scalar_type().intern() != type) {
      throw new UserException(
          what
              + " is "
              + Arrays.toString(TorchTensors.shape(states))
              + " of "
              + states.scalar_type()
              + "; this head takes [..., "
              + d
              + "] of "
              + type);
    }
    return states.numel() / d;
  }

  private Pass current() {
    if (pass == null) {
      throw new UserException("there is nothing to go back through; call forward first");
    }
    return pass;
  }

  private void forget() {
    if (pass != null && pass.hidden() != null) {
      pass.hidden().close();
    }
    pass = null;
  }

  private HeadOps.Shape shape(int n, long sources) {
    return new HeadOps.Shape(n, sources, d, vocabulary, arena.at(workspace), workspaceBytes);
  }

  @Override
  public void close() {
    forget();
    host.close();
    arena.close();
    weight.close();
  }
}
