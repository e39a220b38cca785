package org.lethe.torch;

import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Arrays;
import java.util.Locale;
import java.util.Random;
import org.bytedeco.pytorch.Tensor;
import org.bytedeco.pytorch.global.torch;
import org.bytedeco.pytorch.global.torch.ScalarType;
import org.lethe.kernels.Arena;
import org.lethe.kernels.Backend;
import org.lethe.kernels.Dtype;
import org.lethe.kernels.Ops;
import org.lethe.kernels.Staging;

/**
 * A JVM of its own that uses Lethe, or libtorch and Lethe in the order of its arguments, and writes
 * hashes of both results to a file.
 */
final class LoadOrder {
  private static final int N = 64;

  private LoadOrder() {}

  public static void main(String[] arguments) throws IOException {
    StringBuilder result = new StringBuilder();
    // Twice: what was loaded second must not have disturbed the first.
    for (int round = 0; round < 2; round++) {
      for (int i = 1; i < arguments.length; i++) {
        String hash = arguments[i].equals("lethe") ? lethe() : libtorch();
        result.append(String.format(Locale.ROOT, "%s %s%n", arguments[i], hash));
      }
    }
    Files.writeString(Path.of(arguments[0]), result);
  }

  private static float[] numbers(long seed) {
    Random random = new Random(seed);
    float[] numbers = new float[N * N];
    for (int i = 0; i < numbers.length; i++) {
      numbers[i] = (float) random.nextGaussian();
    }
    return numbers;
  }

  /** x·Wᵀ in fp32 and bf16 by oneDNN, on two threads, and the backend's description. */
  private static String lethe() {
    StringBuilder hash = new StringBuilder();
    try (Backend backend = Backend.open("cpu", 2);
        Staging staging = new Staging(N * N * Float.BYTES);
        Arena arena = new Arena(backend)) {
      long x = arena.reserve(N * N, Dtype.F32);
      long w = arena.reserve(N * N, Dtype.F32);
      long y = arena.reserve(N * N, Dtype.F32);
      long narrow = arena.reserve(3L * N * N, Dtype.BF16);
      arena.allocate();
      staging.upload(numbers(1), N * N, arena.buffer(), x);
      staging.upload(numbers(2), N * N, arena.buffer(), w);
      float[] out = new float[N * N];
      Ops ops = new Ops(backend, Dtype.F32);
      long linear = ops.linear().create(N, N, arena.at(w), 0, 0, 0);
      ops.linear().forward(linear, N, 0, arena.at(x), 0, arena.at(y), 0, 0);
      ops.linear().close(linear);
      staging.download(arena.buffer(), y, out, out.length);
      hash.append(Arrays.hashCode(out)).append(' ');
      ops.convert(2L * N * N, Dtype.F32, arena.at(x), Dtype.BF16, arena.at(narrow));
      Ops half = new Ops(backend, Dtype.BF16);
      long size = (long) N * N * Dtype.BF16.bytes();
      linear = half.linear().create(N, N, arena.at(narrow) + size, 0, 0, 0);
      half.linear().forward(linear, N, 0, arena.at(narrow), 0, arena.at(narrow) + 2 * size, 0, 0);
      half.linear().close(linear);
      ops.convert((long) N * N, Dtype.BF16, arena.at(narrow) + 2 * size, Dtype.F32, arena.at(y));
      staging.download(arena.buffer(), y, out, out.length);
      return hash.append(Arrays.hashCode(out)).append(' ').append(backend.description()).toString();
    }
  }

  /** The same products by libtorch, its oneDNN included, and a gradient. */
  private static String libtorch() {
    try (Tensor x = TorchWeights.of(numbers(1), N, N).set_requires_grad(true);
        Tensor w = TorchWeights.of(numbers(2), N, N);
        Tensor y = torch.linear(x, w);
        Tensor half = torch.linear(x.to(ScalarType.BFloat16), w.to(ScalarType.BFloat16));
        Tensor loss = y.sum().add(half.to(ScalarType.Float).sum())) {
      loss.backward();
      return Arrays.hashCode(Oracle.doubles(y))
          + " "
          + Arrays.hashCode(Oracle.doubles(half))
          + " "
          + Arrays.hashCode(Oracle.doubles(x.grad()));
    }
  }
}
