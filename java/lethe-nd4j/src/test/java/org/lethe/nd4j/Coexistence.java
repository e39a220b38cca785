package org.lethe.nd4j;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;

import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Arrays;
import java.util.List;
import java.util.Locale;
import java.util.Random;
import org.bytedeco.javacpp.FloatPointer;
import org.bytedeco.pytorch.Scalar;
import org.bytedeco.pytorch.Tensor;
import org.bytedeco.pytorch.TensorOptions;
import org.bytedeco.pytorch.global.torch;
import org.lethe.kernels.Backend;
import org.lethe.kernels.Buffer;
import org.lethe.kernels.Dtype;
import org.lethe.kernels.NormShape;
import org.lethe.kernels.Ops;
import org.lethe.kernels.Staging;
import org.nd4j.linalg.api.buffer.DataType;
import org.nd4j.linalg.api.ndarray.INDArray;
import org.nd4j.linalg.factory.Nd4j;

/**
 * A JVM of its own for {@link CoexistenceTest}: loads libraries in a given order, lets each
 * multiply the same matrices, and writes down what Lethe computed. Fails by an exception.
 */
final class Coexistence {
  /** What shares the JVM. */
  enum Library {
    LETHE,
    ND4J,
    TORCH
  }

  private static final int M = 33;
  private static final int K = 70;
  private static final int N = 29;

  /** fp32 sums of 70 products of numbers near 1. */
  private static final double SINGLE = 1e-4;

  private final float[] a = normal(1, M * K);
  private final float[] b = normal(2, K * N);

  private Coexistence() {}

  /**
   * Runs one order.
   *
   * @param arguments the file for Lethe's bits, then the libraries in the order to load them
   */
  public static void main(String[] arguments) throws IOException {
    Coexistence all = new Coexistence();
    List<Library> order = Arrays.stream(arguments).skip(1).map(Library::valueOf).toList();
    String bits = "";
    for (int round = 0; round < 2; round++) {
      for (Library library : order) {
        switch (library) {
          case LETHE -> bits += all.lethe();
          case ND4J -> all.nd4j();
          case TORCH -> all.torch();
        }
      }
    }
    if (order.containsAll(List.of(Library.values()))) {
      all.sharedMemory();
      all.threads();
    }
    Files.writeString(Path.of(arguments[0]), bits);
  }

  private static float[] normal(long seed, int n) {
    Random random = new Random(seed);
    float[] values = new float[n];
    for (int i = 0; i < n; i++) {
      values[i] = (float) random.nextGaussian();
    }
    return values;
  }

  private void check(Library library, float[] product) {
    assertEquals(M * N, product.length);
    for (int i = 0; i < M; i++) {
      for (int j = 0; j < N; j++) {
        double sum = 0;
        for (int k = 0; k < K; k++) {
          sum += (double) a[i * K + k] * b[k * N + j];
        }
        assertEquals(sum, product[i * N + j], SINGLE, library + " at " + i + ", " + j);
      }
    }
  }

  /** One line: what computed, and the bits of the product. */
  private String lethe() {
    float[] transposed = new float[K * N];
    for (int k = 0; k < K; k++) {
      for (int j = 0; j < N; j++) {
        transposed[j * K + k] = b[k * N + j];
      }
    }
    float[] product = new float[M * N];
    String description;
    try (Backend backend = Backend.open("cpu", 2);
        Staging staging = new Staging(M * K * Float.BYTES);
        Buffer x = backend.allocate(M * K * Float.BYTES);
        Buffer w = backend.allocate(K * N * Float.BYTES);
        Buffer y = backend.allocate(M * N * Float.BYTES)) {
      Ops ops = new Ops(backend, Dtype.F32);
      staging.upload(a, M * K, x, 0);
      staging.upload(transposed, K * N, w, 0);
      long linear = ops.linear().create(N, K, w.at(0), 0, 0, 0);
      ops.linear().forward(linear, M, 0, x.at(0), 0, y.at(0), 0, 0);
      staging.download(y, 0, product, M * N);
      description = backend.description();
    }
    check(Library.LETHE, product);
    return String.format(Locale.ROOT, "%08x %s%n", Arrays.hashCode(product), description);
  }

  private void nd4j() {
    INDArray product =
        Nd4j.createFromArray(a).reshape('c', M, K).mmul(Nd4j.createFromArray(b).reshape('c', K, N));
    check(Library.ND4J, product.dup('c').ravel().toFloatVector());
  }

  private void torch() {
    try (FloatPointer left = new FloatPointer(a);
        FloatPointer right = new FloatPointer(b);
        Tensor x = torch.from_blob(left, new long[] {M, K}, floats());
        Tensor y = torch.from_blob(right, new long[] {K, N}, floats());
        Tensor product = torch.mm(x, y).contiguous()) {
      float[] values = new float[M * N];
      product.data_ptr_float().get(values);
      check(Library.TORCH, values);
    }
  }

  private static TensorOptions floats() {
    return new TensorOptions(torch.ScalarType.Float);
  }

  /** One memory, three libraries. */
  private void sharedMemory() {
    INDArray whole = Nd4j.createFromArray(1f, 2, 3, 4, 5, 6, 7, 8).reshape('c', 4, 2);
    INDArray row = whole.getRow(2);
    try (Backend backend = Backend.open("cpu", 1);
        Buffer buffer = Nd4jArrays.buffer(backend, row);
        Tensor tensor = torch.from_blob(Nd4jArrays.memory(row), new long[] {2}, floats());
        Scalar three = new Scalar(3.0f)) {
      tensor.mul_(three);
      assertArrayEquals(new float[] {15, 18}, row.toFloatVector());
      new Ops(backend, Dtype.F32).zero(buffer.at(Float.BYTES), Float.BYTES);
      row.addi(1);
      assertEquals(16, tensor.data_ptr_float().get(0));
      assertEquals(1, tensor.data_ptr_float().get(1));
      assertArrayEquals(new float[] {1, 2, 3, 4, 16, 1, 7, 8}, whole.ravel().toFloatVector());
    }
    try (Tensor tensor = torch.ones(new long[] {2, 3}, floats());
        FloatPointer memory = tensor.data_ptr_float();
        Backend backend = Backend.open("cpu", 1)) {
      memory.limit(6);
      INDArray array = Nd4jArrays.array(memory, DataType.FLOAT, 2, 3);
      try (Buffer buffer = Nd4jArrays.buffer(backend, array.getRow(1))) {
        new Ops(backend, Dtype.F32).zero(buffer.at(0), buffer.bytes());
      }
      assertEquals(3, tensor.sum().item_float());
      tensor.add_(new Scalar(1.0f));
      assertArrayEquals(new float[] {2, 2, 2, 1, 1, 1}, array.ravel().toFloatVector());
    }
  }

  /** An op of Lethe's leaves the others as many threads as they had. */
  private void threads() {
    torch.set_num_threads(2);
    int before = torch.get_num_threads();
    try (Backend backend = Backend.open("cpu", 1);
        Buffer buffer = backend.allocate(64)) {
      new Ops(backend, Dtype.F32)
          .normForward(
              NormShape.rms(1, 4, 1e-6f), buffer.at(0), buffer.at(16), 0, 0, buffer.at(32), 0, 0);
    }
    assertEquals(before, torch.get_num_threads());
  }
}
