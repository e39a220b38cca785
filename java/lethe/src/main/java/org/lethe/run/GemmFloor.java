package org.lethe.run;

import java.util.Arrays;
import java.util.List;
import org.lethe.kernels.Buffer;
import org.lethe.kernels.Ops;
import org.lethe.method.Method;
import org.lethe.method.Positions;
import org.lethe.method.Use;
import org.lethe.model.Model;
import org.lethe.model.ModelConfig;
import org.lethe.model.OwnProducts;
import org.lethe.train.StepSequence;

/**
 * What the matrix products of a LoRA step cost if nothing else did: the frozen linears forward and
 * back to their inputs as far as a step runs them, and the head's two products over the rows that a
 * loss looks at, one at a token. Adapters and attention are not counted. Only the backend's thread
 * may call it.
 */
public final class GemmFloor {
  /** Rows and columns of the square product whose rate is taken. */
  static final int SIZE = 1024;

  private static final int REPEATS = 30;
  private static final int PASSES = 5;
  // The head's chunks of fp32 logits on a host: native/cpu/head.cpp's and head_plan.cpp's rules.
  private static final int CHUNK_BYTES = 32 << 20;
  private static final int LEAST_CHUNK = 128;

  private GemmFloor() {}

  /**
   * Floating-point operations of one step.
   *
   * @param shared tokens that sequences left out, since they stand at the beginning of others
   */
  public static double flops(ModelConfig c, Method method, List<StepSequence> step, long shared) {
    double into = (double) c.hiddenSize() * c.qkvWidth();
    double behind = c.hiddenSize() * (c.queryWidth() + 3.0 * c.feedForwardSize());
    long tokens = -shared;
    long rows = 0;
    for (StepSequence s : step) {
      int length = s.tokens().ids().length;
      tokens += length;
      rows += length - first(method, s);
    }
    // Nothing below the first products wants a gradient; behind its attention the last layer has
    // the head's rows alone.
    double linears = 4 * c.layers() * (into + behind) * tokens;
    double left = 2 * into * tokens + 4 * behind * (tokens - rows);
    return linears - left + 4.0 * rows * c.hiddenSize() * c.vocabularySize();
  }

  /** FLOP/s of the best of several square products, in the storage of {@code ops}. */
  public static double rate(Ops ops) {
    long bytes = (long) SIZE * SIZE * ops.dtype().bytes();
    try (Buffer w = ops.backend().allocate(bytes);
        Buffer x = ops.backend().allocate(bytes);
        Buffer y = ops.backend().allocate(bytes)) {
      long linear = ops.linear().create(SIZE, SIZE, w.at(0), 0, 0, 0);
      long best = Long.MAX_VALUE;
      for (int i = 0; i < REPEATS; i++) {
        long start = System.nanoTime();
        ops.linear().forward(linear, SIZE, SIZE, x.at(0), 0, y.at(0), 0, 0);
        ops.backend().synchronize();
        best = Math.min(best, System.nanoTime() - start);
      }
      ops.linear().close(linear);
      return 2.0 * SIZE * SIZE * SIZE / best * 1e9;
    }
  }

  /**
   * Milliseconds of a step's own products and nothing else, at their own shapes and on the model's
   * own weights: the median of a few passes. A product is what the device's linear layer does
   * without adapters, results rounded to storage included; the head's two come in chunks as it cuts
   * them on a host.
   *
   * @param shared tokens that the step leaves out
   */
  public static double alone(Model model, Method method, List<StepSequence> step, int shared) {
    ModelConfig c = model.config();
    int tokens = step.stream().mapToInt(s -> s.tokens().ids().length).sum() - shared;
    int rows = step.stream().mapToInt(s -> s.tokens().ids().length - first(method, s)).sum();
    int fitting = CHUNK_BYTES / (c.vocabularySize() * Float.BYTES);
    int most = Math.max(2, Math.min(rows, Math.max(LEAST_CHUNK, fitting)));
    int chunks = (rows + most - 1) / most;
    int chunk = Math.max(2, (rows + chunks - 1) / chunks);
    try (OwnProducts products = new OwnProducts(model, tokens, rows, chunk)) {
      double[] ms = new double[PASSES];
      for (int pass = 0; pass < PASSES; pass++) {
        long start = System.nanoTime();
        products.layers();
        for (int done = 0; done < rows; done += chunk) {
          products.head(Math.min(chunk, rows - done));
        }
        model.ops().backend().synchronize();
        ms[pass] = (System.nanoTime() - start) / 1e6;
      }
      Arrays.sort(ms);
      return ms[PASSES / 2];
    }
  }

  /** The first position whose token is predicted by a head row. */
  private static int first(Method method, StepSequence s) {
    for (Use use : method.uses()) {
      if (use.role() == s.role() && use.positions() == Positions.ALL) {
        return 1;
      }
    }
    return s.tokens().answerStart();
  }
}
