package org.lethe.examples;

import org.lethe.kernels.Activation;
import org.lethe.kernels.Arena;
import org.lethe.kernels.Backend;
import org.lethe.kernels.Dtype;
import org.lethe.kernels.Ops;
import org.lethe.kernels.Staging;

/**
 * One op by itself: checked against plain Java, then timed beside a copy. KernelEngineer [THREADS].
 */
final class KernelEngineer {
  private static final int TOKENS = 2048;
  private static final int FEED_FORWARD = 1024;
  private static final int REPEATS = 20;
  // Each fp32 operation rounds by 2^-24; the logistic function and two products make a handful.
  private static final double TOLERANCE = 16 * 0x1p-24;

  private KernelEngineer() {}

  public static void main(String[] args) {
    int threads = args.length > 0 ? Integer.parseInt(args[0]) : 1;
    // README: begin
    int n = TOKENS * FEED_FORWARD;
    try (Backend backend = Backend.open("cpu", threads);
        Arena arena = new Arena(backend);
        Staging staging = new Staging(2 * n * Float.BYTES)) {
      Ops ops = new Ops(backend, Dtype.F32);
      long gateUp = arena.reserve(2L * n, Dtype.F32);
      long out = arena.reserve(n, Dtype.F32);
      long copy = arena.reserve(2L * n, Dtype.F32);
      arena.allocate();
      float[] in = new float[2 * n];
      for (int i = 0; i < in.length; i++) {
        in[i] = (float) StrictMath.sin(i) * 4;
      }
      staging.upload(in, in.length, arena.buffer(), gateUp);
      Runnable swiglu =
          () ->
              ops.gatedForward(
                  Activation.SILU, TOKENS, FEED_FORWARD, arena.at(gateUp), arena.at(out));
      swiglu.run();
      float[] result = new float[n];
      staging.download(arena.buffer(), out, result, n);
      check(in, result);
      long bytes = 3L * n * Float.BYTES;
      double op = bytes / seconds(swiglu);
      long copied = 2L * n * Float.BYTES;
      double limit = 2 * copied / seconds(() -> ops.copy(arena.at(copy), arena.at(gateUp), copied));
      System.out.printf("swiglu: %.1f GB/s, %.0f %% of a copy%n", op / 1e9, 100 * op / limit);
    }
    // README: end
  }

  /** Row t of the input is [gate(f), up(f)]; the output is gate · logistic(gate) · up. */
  private static void check(float[] in, float[] result) {
    for (int t = 0; t < TOKENS; t++) {
      for (int f = 0; f < FEED_FORWARD; f++) {
        double gate = in[t * 2 * FEED_FORWARD + f];
        double up = in[t * 2 * FEED_FORWARD + FEED_FORWARD + f];
        double expected = gate / (1 + StrictMath.exp(-gate)) * up;
        double error = Math.abs(result[t * FEED_FORWARD + f] - expected);
        if (!(error <= TOLERANCE * Math.max(Math.abs(expected), Double.MIN_NORMAL))) {
          throw new AssertionError("token " + t + ", " + f + ": off by " + error);
        }
      }
    }
    System.out.println("swiglu: right");
  }

  /** The best of several: what the machine can do when nothing disturbs it. */
  private static double seconds(Runnable op) {
    long best = Long.MAX_VALUE;
    for (int i = 0; i < REPEATS; i++) {
      long begin = System.nanoTime();
      op.run();
      best = Math.min(best, System.nanoTime() - begin);
    }
    return best * 1e-9;
  }
}
