package org.lethe.run;

import java.util.List;
import java.util.function.IntToDoubleFunction;
import org.lethe.kernels.AttentionShape;
import org.lethe.kernels.Buffer;
import org.lethe.kernels.Dtype;
import org.lethe.kernels.HeadOps;
import org.lethe.kernels.Ops;
import org.lethe.method.RowKind;
import org.lethe.method.RowStatistics;
import org.lethe.model.ModelConfig;

/**
 * The kernels that a step spends its time in, each beside double-precision arithmetic on a few of
 * its outputs.
 */
final class BenchKernels {
  private static final long SEED = 77;
  private static final int CHECKED = 64;
  // A sum of n products in fp32 is off by at most n units of the sum of their magnitudes; blocked
  // sums, as all kernels do them, by far less.
  private static final double FP32_UNIT = 0x1p-24;
  private static final double BF16_UNIT = 0x1p-8;

  private final Ops ops;
  private final Bench.Options options;
  private final ModelConfig c;
  private final double unit;

  BenchKernels(Ops ops, Bench.Options options) {
    this.ops = ops;
    this.options = options;
    this.c = options.model();
    this.unit = ops.dtype() == Dtype.BF16 ? BF16_UNIT : FP32_UNIT;
  }

  /** y[n,n] = x·wᵀ at the size whose rate {@link GemmFloor} takes. */
  Bench.Timing gemm() {
    int n = GemmFloor.SIZE;
    float[] x = Operands.exact(n * n, SEED, 1);
    float[] w = Operands.exact(n * n, SEED, 2);
    try (Operands operands = new Operands(ops)) {
      Buffer dx = operands.storage(x);
      Buffer dw = operands.storage(w);
      Buffer y = operands.storage((long) n * n);
      long linear = ops.linear().create(n, n, dw.at(0), 0, 0, 0);
      Runnable work = () -> ops.linear().forward(linear, n, n, dx.at(0), 0, y.at(0), 0, 0);
      work.run();
      float[] got = operands.readStorage(y, n * n);
      for (int i = 0; i < CHECKED; i++) {
        int row = i * 7919 % n;
        int column = i * 104729 % n;
        double expected = dot(n, k -> (double) x[row * n + k] * w[column * n + k]);
        double magnitude = dot(n, k -> Math.abs((double) x[row * n + k] * w[column * n + k]));
        double tolerance = n * FP32_UNIT * magnitude + unit * Math.abs(expected);
        Bench.check("an element of a matrix product", got[row * n + column], expected, tolerance);
      }
      String shape = n + " x " + n + " x " + n;
      Bench.Timing timing =
          Bench.time(ops.backend(), options, "gemm", shape, 2.0 * n * n * n, 0, work);
      ops.linear().close(linear);
      return timing;
    }
  }

  /** Causal attention forward and back, over the step's sequences laid end to end. */
  List<Bench.Timing> attention() {
    int sequences = 2 * options.pairs();
    int length = options.length();
    int tokens = sequences * length;
    int heads = c.heads();
    int dim = c.headDim();
    float[] qkv = Operands.exact(tokens * c.qkvWidth(), SEED, 3);
    float[] dout = Operands.exact(tokens * c.queryWidth(), SEED, 4);
    int[] segments = new int[sequences * AttentionShape.SEGMENT_FIELDS];
    for (int s = 0; s < sequences; s++) {
      int at = s * AttentionShape.SEGMENT_FIELDS;
      segments[at] = segments[at + 2] = s * length;
      segments[at + 1] = segments[at + 3] = length;
    }
    try (Operands operands = new Operands(ops)) {
      long element = ops.dtype().bytes();
      Buffer in = operands.storage(qkv);
      Buffer back = operands.storage((long) tokens * c.qkvWidth());
      Buffer out = operands.storage((long) tokens * c.queryWidth());
      Buffer outGradient = operands.storage(dout);
      Buffer lse = operands.floats((long) tokens * heads);
      long k = c.queryWidth() * element;
      long v = (c.queryWidth() + c.kvWidth()) * element;
      AttentionShape shape =
          new AttentionShape(
              heads,
              c.kvHeads(),
              dim,
              (float) (1 / Math.sqrt(dim)),
              sequences,
              operands.ints(segments).at(0),
              tokens,
              c.qkvWidth(),
              tokens,
              c.qkvWidth());
      Runnable forward =
          () -> ops.attentionForward(shape, in.at(0), in.at(k), in.at(v), out.at(0), lse.at(0));
      Runnable backward =
          () ->
              ops.attentionBackward(
                  shape,
                  in.at(0),
                  in.at(k),
                  in.at(v),
                  out.at(0),
                  lse.at(0),
                  outGradient.at(0),
                  back.at(0),
                  back.at(k),
                  back.at(v));
      forward.run();
      backward.run();
      float[] gotOut = operands.readStorage(out, tokens * c.queryWidth());
      float[] gotBack = operands.readStorage(back, tokens * c.qkvWidth());
      for (int i = 0; i < CHECKED; i++) {
        checkQuery(i * 7919 % tokens, i % heads, qkv, dout, gotOut, gotBack);
      }
      String words = sequences + " sequences of " + length + ", " + heads + " heads of " + dim;
      // A query sees half of its sequence on average; forward has two products, backward five.
      double pair = (double) sequences * length * length * dim * heads;
      return List.of(
          Bench.time(ops.backend(), options, "attention forward", words, 2 * pair, tokens, forward),
          Bench.time(
              ops.backend(), options, "attention backward", words, 5 * pair, tokens, backward));
    }
  }

  /** One query of one head: its output, and the gradient at the query. */
  private void checkQuery(
      int token, int head, float[] qkv, float[] dout, float[] gotOut, float[] gotBack) {
    int dim = c.headDim();
    int width = c.qkvWidth();
    int first = token / options.length() * options.length();
    int keys = token - first + 1;
    int group = head / (c.heads() / c.kvHeads());
    int q = token * width + head * dim;
    int keyColumn = c.queryWidth() + group * dim;
    int o = token * c.queryWidth() + head * dim;
    double scale = 1 / Math.sqrt(dim);
    double[] p = new double[keys];
    double[] dp = new double[keys];
    double sum = 0;
    for (int j = 0; j < keys; j++) {
      int key = (first + j) * width + keyColumn;
      p[j] = Math.exp(scale * dot(dim, t -> (double) qkv[q + t] * qkv[key + t]));
      dp[j] = dot(dim, t -> (double) dout[o + t] * qkv[key + c.kvWidth() + t]);
      sum += p[j];
    }
    double mean = 0;
    for (int j = 0; j < keys; j++) {
      p[j] /= sum;
      mean += p[j] * dp[j];
    }
    for (int t = 0; t < dim; t++) {
      double value = 0;
      double gradient = 0;
      double magnitude = 0;
      for (int j = 0; j < keys; j++) {
        int key = (first + j) * width + keyColumn;
        double ds = scale * p[j] * (dp[j] - mean);
        value += p[j] * qkv[key + c.kvWidth() + t];
        gradient += ds * qkv[key + t];
        magnitude += scale * p[j] * (Math.abs(dp[j]) + Math.abs(mean));
      }
      // Values are at most 1; probabilities, and in bf16 what is multiplied by them, are rounded.
      double tolerance = 8 * unit + dim * FP32_UNIT;
      Bench.check("an output of attention", gotOut[o + t], value, tolerance);
      Bench.check(
          "a query's gradient", gotBack[q + t], gradient, (8 * unit + dim * FP32_UNIT) * magnitude);
    }
  }

  /** The fused head: statistics and row gradients of the negative log-likelihood. */
  Bench.Timing head() {
    int rows = 2 * options.pairs() * options.length();
    int d = c.hiddenSize();
    int vocabulary = c.vocabularySize();
    float[] h = Operands.exact(rows * d, SEED, 5);
    float[] w = Operands.exact(vocabulary * d, SEED, 6);
    int[] records = new int[rows * HeadOps.ROW_FIELDS];
    for (int row = 0; row < rows; row++) {
      int at = row * HeadOps.ROW_FIELDS;
      records[at] = row;
      records[at + 1] = (int) (row * 2654435761L % vocabulary);
      records[at + 2] = RowKind.NLL.code();
      records[at + 3] = -1;
      records[at + 4] = -1;
    }
    try (Operands operands = new Operands(ops)) {
      Buffer source = operands.storage(h);
      Buffer weight = operands.storage(w);
      Buffer mean = operands.floats(d);
      Buffer record = operands.ints(records);
      Buffer statistics = operands.floats((long) rows * HeadOps.STATISTICS);
      Buffer gradient = operands.storage((long) rows * d);
      long bytes = ops.head().workspace(rows, d, vocabulary).most();
      Buffer workspace = operands.bytes(bytes);
      HeadOps.Shape shape = new HeadOps.Shape(rows, rows, d, vocabulary, workspace.at(0), bytes);
      ops.head().mean(d, vocabulary, weight.at(0), mean.at(0));
      Runnable work =
          () ->
              ops.head()
                  .forward(
                      shape,
                      new HeadOps.Counts(0, 0),
                      source.at(0),
                      weight.at(0),
                      mean.at(0),
                      record.at(0),
                      0,
                      statistics.at(0),
                      gradient.at(0));
      work.run();
      RowStatistics got =
          new RowStatistics(operands.readFloats(statistics, rows * HeadOps.STATISTICS), vocabulary);
      float[] dh = operands.readStorage(gradient, rows * d);
      for (int row = 0; row < rows; row += Math.max(1, rows / 2)) {
        checkRow(row, records[row * HeadOps.ROW_FIELDS + 1], h, w, got, dh);
      }
      String words = rows + " rows, d " + d + ", V " + vocabulary;
      return Bench.time(
          ops.backend(), options, "head", words, 4.0 * rows * d * vocabulary, rows, work);
    }
  }

  private void checkRow(int row, int label, float[] h, float[] w, RowStatistics got, float[] dh) {
    int d = c.hiddenSize();
    int vocabulary = c.vocabularySize();
    double[] z = new double[vocabulary];
    double max = Double.NEGATIVE_INFINITY;
    double mean = 0;
    for (int v = 0; v < vocabulary; v++) {
      int first = v * d;
      z[v] = dot(d, k -> (double) h[row * d + k] * w[first + k]);
      max = Math.max(max, z[v]);
      mean += z[v] / vocabulary;
    }
    double sum = 0;
    for (double logit : z) {
      sum += Math.exp(logit - max);
    }
    double lse = max + Math.log(sum);
    // Factors are at most 1: a logit is off by at most d·d units in fp32.
    double tolerance = (double) d * d * FP32_UNIT;
    Bench.check("a row's nll", got.nll(row), lse - z[label], tolerance);
    double uniform = lse - mean - Math.log(vocabulary);
    Bench.check("a row's divergence from uniform", got.uniformKl(row), uniform, tolerance);
    double[] expected = new double[d];
    for (int v = 0; v < vocabulary; v++) {
      double direction = Math.exp(z[v] - lse) - (v == label ? 1 : 0);
      for (int k = 0; k < d; k++) {
        expected[k] += direction * w[v * d + k];
      }
    }
    for (int k = 0; k < d; k++) {
      // The directions' magnitudes add up to 2 at most, each rounded to storage, and so is the sum.
      double allowed = 2 * tolerance + 8 * unit;
      Bench.check("a row's gradient", dh[row * d + k], expected[k], allowed);
    }
  }

  private static double dot(int n, IntToDoubleFunction product) {
    double sum = 0;
    for (int k = 0; k < n; k++) {
      sum += product.applyAsDouble(k);
    }
    return sum;
  }
}
