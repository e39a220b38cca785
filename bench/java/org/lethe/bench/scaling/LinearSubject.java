package org.lethe.bench.scaling;

import org.lethe.kernels.Buffer;
import org.lethe.kernels.Ops;

/** A square frozen linear with one adapter, forward and backward. */
final class LinearSubject implements Subject {
  private static final float WEIGHT_DEVIATION = 0.02f;
  private static final float SCALE = 2;

  @Override
  public String name() {
    return "linear";
  }

  @Override
  public String shape(Sizes s) {
    return s.width() + " to " + s.width() + " with LoRA, forward and backward";
  }

  @Override
  public double flops(Sizes s) {
    double t = s.tokens();
    double d = s.width();
    return 4 * t * d * d + 6 * t * s.rank() * 2 * d;
  }

  @Override
  public long bytes(Ops ops, Sizes s) {
    long d = s.width();
    long storage = 4L * s.tokens() * d + d * d + 2L * s.rank() * d + 2L * s.tokens() * s.rank();
    return storage * ops.dtype().bytes() + 2L * s.rank() * d * Float.BYTES;
  }

  @Override
  public Prepared prepare(Ops ops, Sizes s) {
    return new Linear(ops, s);
  }

  private static final class Linear implements Prepared {
    private final Ops ops;
    private final Sizes s;
    private final DeviceMemory memory;
    private final Buffer w;
    private final Buffer a;
    private final Buffer b;
    private final Buffer x;
    private final Buffer y;
    private final Buffer dy;
    private final Buffer dx;
    private final Buffer u;
    private final Buffer du;
    private final long linear;

    Linear(Ops ops, Sizes s) {
      this.ops = ops;
      this.s = s;
      long d = s.width();
      memory = new DeviceMemory(ops);
      w = memory.normal(d * d, WEIGHT_DEVIATION, 1);
      a = memory.normal(s.rank() * d, WEIGHT_DEVIATION, 2);
      b = memory.normal(d * s.rank(), WEIGHT_DEVIATION, 3);
      x = memory.normal(s.tokens() * d, 1, 4);
      dy = memory.normal(s.tokens() * d, 1, 5);
      y = memory.storage(s.tokens() * d);
      dx = memory.storage(s.tokens() * d);
      u = memory.storage((long) s.tokens() * s.rank());
      du = memory.storage((long) s.tokens() * s.rank());
      Buffer da = memory.bytes(s.rank() * d * Float.BYTES);
      Buffer db = memory.bytes(s.rank() * d * Float.BYTES);
      linear = ops.linear().create(d, d, w.at(0), 0, 0, 0);
      ops.linear()
          .adapter(linear, 0, d, s.rank(), SCALE, 0, 0, a.at(0), b.at(0), da.at(0), db.at(0));
    }

    @Override
    public void call() {
      ops.linear().forward(linear, s.tokens(), s.tokens(), x.at(0), 0, y.at(0), 0, u.at(0));
      ops.linear().backward(linear, s.tokens(), x.at(0), u.at(0), dy.at(0), 0, du.at(0), dx.at(0));
    }

    /** The last row of both results. */
    @Override
    public void check() {
      int d = s.width();
      long last = (long) (s.tokens() - 1) * d;
      double[] in = memory.read(x, last, d);
      double[] back = memory.read(dy, last, d);
      double[] out = new double[d];
      double[] gradient = new double[d];
      memory.rows(w, d, d, (row, v, at) -> both(v, at, d, in, back[(int) row], gradient, out, row));
      double[] down = new double[s.rank()];
      memory.rows(a, s.rank(), d, (row, v, at) -> down[(int) row] = SCALE * dot(v, at, in));
      double[] up = new double[s.rank()];
      memory.rows(
          b,
          d,
          s.rank(),
          (row, v, at) -> {
            out[(int) row] += dot(v, at, down);
            for (int r = 0; r < up.length; r++) {
              up[r] += SCALE * back[(int) row] * v[at + r];
            }
          });
      memory.rows(a, s.rank(), d, (row, v, at) -> add(v, at, up[(int) row], gradient));
      memory.near("a linear's output", memory.read(y, last, d), out);
      memory.near("a linear's gradient", memory.read(dx, last, d), gradient);
    }

    private static void both(
        double[] v, int at, int d, double[] in, double dy, double[] dx, double[] y, long row) {
      for (int k = 0; k < d; k++) {
        y[(int) row] += v[at + k] * in[k];
      }
      add(v, at, dy, dx);
    }

    private static double dot(double[] v, int at, double[] with) {
      double sum = 0;
      for (int k = 0; k < with.length; k++) {
        sum += v[at + k] * with[k];
      }
      return sum;
    }

    private static void add(double[] v, int at, double factor, double[] to) {
      for (int k = 0; k < to.length; k++) {
        to[k] += factor * v[at + k];
      }
    }

    @Override
    public void close() {
      ops.linear().close(linear);
      memory.close();
    }
  }
}
