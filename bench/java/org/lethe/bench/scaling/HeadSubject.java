package org.lethe.bench.scaling;

import org.lethe.kernels.Buffer;
import org.lethe.kernels.HeadOps;
import org.lethe.kernels.Ops;

/** The frozen head: statistics and gradient of the negative log-likelihood of each row. */
final class HeadSubject implements Subject {
  private static final int NLL = 1;
  private static final float WEIGHT_DEVIATION = 0.02f;

  @Override
  public String name() {
    return "head";
  }

  @Override
  public String shape(Sizes s) {
    return "NLL, d " + s.width();
  }

  @Override
  public double flops(Sizes s) {
    return 4.0 * s.tokens() * s.width() * s.vocabulary();
  }

  @Override
  public long bytes(Ops ops, Sizes s) {
    long matrices = (2L * s.tokens() + s.vocabulary()) * s.width() * ops.dtype().bytes();
    long rows = (long) s.tokens() * (HeadOps.STATISTICS + HeadOps.ROW_FIELDS) * Float.BYTES;
    return matrices + rows + workspace(ops, s);
  }

  private static long workspace(Ops ops, Sizes s) {
    return org.lethe.model.Head.workspace(ops).bytes(s.tokens(), s.width(), s.vocabulary());
  }

  @Override
  public Prepared prepare(Ops ops, Sizes s) {
    return new Head(ops, s);
  }

  private static final class Head implements Prepared {
    private final Ops ops;
    private final Sizes s;
    private final DeviceMemory memory;
    private final Buffer h;
    private final Buffer w;
    private final Buffer mean;
    private final Buffer rows;
    private final Buffer statistics;
    private final Buffer gradient;
    private final HeadOps.Shape shape;

    Head(Ops ops, Sizes s) {
      this.ops = ops;
      this.s = s;
      this.memory = new DeviceMemory(ops);
      this.h = memory.normal((long) s.tokens() * s.width(), 1, 1);
      this.w = memory.normal((long) s.vocabulary() * s.width(), WEIGHT_DEVIATION, 2);
      this.mean = memory.bytes((long) s.width() * Float.BYTES);
      int[] records = new int[s.tokens() * HeadOps.ROW_FIELDS];
      for (int row = 0; row < s.tokens(); row++) {
        int at = row * HeadOps.ROW_FIELDS;
        records[at] = row;
        records[at + 1] = label(row);
        records[at + 2] = NLL;
        records[at + 3] = -1;
        records[at + 4] = -1;
      }
      this.rows = memory.ints(records);
      this.statistics = memory.bytes((long) s.tokens() * HeadOps.STATISTICS * Float.BYTES);
      this.gradient = memory.storage((long) s.tokens() * s.width());
      long bytes = workspace(ops, s);
      this.shape =
          new HeadOps.Shape(
              s.tokens(), s.tokens(), s.width(), s.vocabulary(), memory.bytes(bytes).at(0), bytes);
      ops.head().mean(s.width(), s.vocabulary(), w.at(0), mean.at(0));
    }

    private int label(int row) {
      return (int) (row * 7919L % s.vocabulary());
    }

    @Override
    public void call() {
      ops.head()
          .forward(
              shape,
              new HeadOps.Counts(0, 0),
              h.at(0),
              w.at(0),
              mean.at(0),
              rows.at(0),
              0,
              statistics.at(0),
              gradient.at(0));
    }

    /** The last row's gradient: p - e_y times the weight. */
    @Override
    public void check() {
      int row = s.tokens() - 1;
      int d = s.width();
      double[] source = memory.read(h, (long) row * d, d);
      double[] z = new double[s.vocabulary()];
      memory.rows(
          w,
          s.vocabulary(),
          d,
          (v, values, at) -> {
            for (int k = 0; k < d; k++) {
              z[(int) v] += source[k] * values[at + k];
            }
          });
      double max = Double.NEGATIVE_INFINITY;
      for (double logit : z) {
        max = Math.max(max, logit);
      }
      double sum = 0;
      for (double logit : z) {
        sum += Math.exp(logit - max);
      }
      double lse = max + Math.log(sum);
      double[] expected = new double[d];
      memory.rows(
          w,
          s.vocabulary(),
          d,
          (v, values, at) -> {
            double direction = Math.exp(z[(int) v] - lse) - (v == label(row) ? 1 : 0);
            for (int k = 0; k < d; k++) {
              expected[k] += direction * values[at + k];
            }
          });
      memory.near("the head's gradient", memory.read(gradient, (long) row * d, d), expected);
    }

    @Override
    public void close() {
      memory.close();
    }
  }
}
