package org.lethe.bench;

import java.util.Arrays;
import org.lethe.kernels.Backend;
import org.lethe.kernels.Buffer;
import org.lethe.kernels.Dtype;
import org.lethe.kernels.Ops;

/** The rate of one large matrix product, which a step's own products are held against. */
final class ProductRate {
  private static final int CALLS = 20;
  private static final int SAMPLES = 7;

  private ProductRate() {}

  /** FLOP/s of {@code [rows, in] x [in, out]} in bf16: the median of runs of several calls. */
  static double of(String device, long rows, long out, long in) {
    try (Backend backend = Backend.open(device, Runtime.getRuntime().availableProcessors());
        Buffer w = backend.allocate(out * in * Dtype.BF16.bytes());
        Buffer x = backend.allocate(rows * in * Dtype.BF16.bytes());
        Buffer y = backend.allocate(rows * out * Dtype.BF16.bytes())) {
      Ops ops = new Ops(backend, Dtype.BF16);
      // A device that multiplies zeros takes less power, and runs faster than with numbers.
      ops.randomNormal(out * in, 1, 0, 0.02f, w.at(0));
      ops.randomNormal(rows * in, 2, 0, 1, x.at(0));
      long linear = ops.linear().create(out, in, w.at(0), 0, 0, 0);
      double[] seconds = new double[SAMPLES];
      for (int sample = -1; sample < SAMPLES; sample++) {
        long start = System.nanoTime();
        for (int call = 0; call < CALLS; call++) {
          ops.linear().forward(linear, rows, 0, x.at(0), 0, y.at(0), 0, 0);
        }
        backend.synchronize();
        seconds[Math.max(0, sample)] = (System.nanoTime() - start) / 1e9 / CALLS;
      }
      ops.linear().close(linear);
      Arrays.sort(seconds);
      return 2.0 * rows * out * in / seconds[SAMPLES / 2];
    }
  }
}
