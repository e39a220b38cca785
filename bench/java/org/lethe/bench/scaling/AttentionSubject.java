package org.lethe.bench.scaling;

import org.lethe.kernels.AttentionShape;
import org.lethe.kernels.Buffer;
import org.lethe.kernels.Ops;

/** Causal attention over packed sequences, forward and backward. */
final class AttentionSubject implements Subject {
  private final int headDim;

  AttentionSubject(int headDim) {
    this.headDim = headDim;
  }

  @Override
  public String name() {
    return "attention";
  }

  @Override
  public String shape(Sizes s) {
    return s.tokens() / s.length()
        + " sequences, "
        + s.width() / headDim
        + " heads of "
        + headDim
        + ", forward and backward";
  }

  /** Two products forward and five back, of which causality leaves half. */
  static double flops(Sizes s, double width) {
    double pairs = (double) s.tokens() * (s.length() + 1) / 2;
    return 14 * pairs * width;
  }

  @Override
  public double flops(Sizes s) {
    return flops(s, s.width());
  }

  @Override
  public long bytes(Ops ops, Sizes s) {
    return 8L * s.tokens() * s.width() * ops.dtype().bytes()
        + (long) s.tokens() * (s.width() / headDim) * Float.BYTES;
  }

  @Override
  public Prepared prepare(Ops ops, Sizes s) {
    return new Attention(ops, s, headDim);
  }

  private static final class Attention implements Prepared {
    private final Ops ops;
    private final Sizes s;
    private final int headDim;
    private final DeviceMemory memory;
    private final Buffer q;
    private final Buffer k;
    private final Buffer v;
    private final Buffer out;
    private final Buffer lse;
    private final Buffer dout;
    private final Buffer dq;
    private final Buffer dk;
    private final Buffer dv;
    private final AttentionShape shape;

    Attention(Ops ops, Sizes s, int headDim) {
      this.ops = ops;
      this.s = s;
      this.headDim = headDim;
      long n = (long) s.tokens() * s.width();
      int heads = s.width() / headDim;
      memory = new DeviceMemory(ops);
      q = memory.normal(n, 1, 1);
      k = memory.normal(n, 1, 2);
      v = memory.normal(n, 1, 3);
      dout = memory.normal(n, 1, 4);
      out = memory.storage(n);
      dq = memory.storage(n);
      dk = memory.storage(n);
      dv = memory.storage(n);
      lse = memory.bytes((long) s.tokens() * heads * Float.BYTES);
      int sequences = s.tokens() / s.length();
      int[] segments = new int[sequences * AttentionShape.SEGMENT_FIELDS];
      for (int i = 0; i < sequences; i++) {
        int at = i * AttentionShape.SEGMENT_FIELDS;
        segments[at] = segments[at + 2] = i * s.length();
        segments[at + 1] = segments[at + 3] = s.length();
      }
      shape =
          new AttentionShape(
              heads,
              heads,
              headDim,
              (float) (1 / Math.sqrt(headDim)),
              sequences,
              memory.ints(segments).at(0),
              s.tokens(),
              s.width(),
              s.tokens(),
              s.width());
    }

    @Override
    public void call() {
      ops.attentionForward(shape, q.at(0), k.at(0), v.at(0), out.at(0), lse.at(0));
      ops.attentionBackward(
          shape,
          q.at(0),
          k.at(0),
          v.at(0),
          out.at(0),
          lse.at(0),
          dout.at(0),
          dq.at(0),
          dk.at(0),
          dv.at(0));
    }

    /** The last query's first head: it sees its whole sequence. */
    @Override
    public void check() {
      int width = s.width();
      long query = (long) (s.tokens() - 1) * width;
      double[] own = memory.read(q, query, headDim);
      double[] upstream = memory.read(dout, query, headDim);
      double[] p = new double[s.length()];
      double[] dp = new double[s.length()];
      double sum = 0;
      for (int j = 0; j < s.length(); j++) {
        long key = (long) (s.tokens() - s.length() + j) * width;
        p[j] = Math.exp(dot(own, memory.read(k, key, headDim)) / Math.sqrt(headDim));
        dp[j] = dot(upstream, memory.read(v, key, headDim));
        sum += p[j];
      }
      double mean = 0;
      for (int j = 0; j < p.length; j++) {
        p[j] /= sum;
        mean += p[j] * dp[j];
      }
      double[] value = new double[headDim];
      double[] gradient = new double[headDim];
      for (int j = 0; j < p.length; j++) {
        long key = (long) (s.tokens() - s.length() + j) * width;
        double[] keys = memory.read(k, key, headDim);
        double[] values = memory.read(v, key, headDim);
        for (int t = 0; t < headDim; t++) {
          value[t] += p[j] * values[t];
          gradient[t] += p[j] * (dp[j] - mean) / Math.sqrt(headDim) * keys[t];
        }
      }
      memory.near("attention's output", memory.read(out, query, headDim), value);
      memory.near("a query's gradient", memory.read(dq, query, headDim), gradient);
    }

    private static double dot(double[] x, double[] y) {
      double sum = 0;
      for (int i = 0; i < x.length; i++) {
        sum += x[i] * y[i];
      }
      return sum;
    }

    @Override
    public void close() {
      memory.close();
    }
  }
}
