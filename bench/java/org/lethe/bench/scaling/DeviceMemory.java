package org.lethe.bench.scaling;

import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import org.lethe.InternalFaultException;
import org.lethe.kernels.Buffer;
import org.lethe.kernels.Dtype;
import org.lethe.kernels.Ops;
import org.lethe.kernels.Staging;

/** Buffers of one point, and rows of them read back as doubles. */
final class DeviceMemory implements AutoCloseable {
  /** Rows are read in pieces of that many numbers. */
  private static final int PIECE = 1 << 20;

  // Two roundings to bf16 storage, or what blocked fp32 sums of fp32 products may differ by.
  private static final double BF16_BOUND = 0x1p-7;
  private static final double FP32_BOUND = 1e-5;

  private final Ops ops;
  private final Staging staging = new Staging(PIECE * Float.BYTES);
  private final List<Buffer> buffers = new ArrayList<>();
  private final Buffer wide;

  DeviceMemory(Ops ops) {
    this.ops = ops;
    this.wide = bytes((long) PIECE * Float.BYTES);
  }

  Buffer bytes(long n) {
    Buffer buffer = ops.backend().allocate(n);
    buffers.add(buffer);
    return buffer;
  }

  /** Zeroed, in storage. */
  Buffer storage(long n) {
    return bytes(n * ops.dtype().bytes());
  }

  /** Normal numbers in storage. */
  Buffer normal(long n, float deviation, long seed) {
    Buffer buffer = storage(n);
    ops.randomNormal(n, seed, 0, deviation, buffer.at(0));
    return buffer;
  }

  Buffer ints(int[] values) {
    Buffer buffer = bytes((long) values.length * Integer.BYTES);
    for (int at = 0; at < values.length; at += PIECE) {
      int n = Math.min(PIECE, values.length - at);
      int[] piece = Arrays.copyOfRange(values, at, at + n);
      staging.upload(piece, n, buffer, (long) at * Integer.BYTES);
    }
    return buffer;
  }

  /** {@code n} numbers in storage from element {@code first} on; at most a piece. */
  double[] read(Buffer buffer, long first, int n) {
    float[] values = new float[n];
    if (ops.dtype() == Dtype.F32) {
      staging.download(buffer, first * Float.BYTES, values, n);
    } else {
      ops.convert(n, ops.dtype(), buffer.at(first * Short.BYTES), Dtype.F32, wide.at(0));
      staging.download(wide, 0, values, n);
    }
    double[] doubles = new double[n];
    for (int i = 0; i < n; i++) {
      doubles[i] = values[i];
    }
    return doubles;
  }

  /** Rows of a matrix one after the other. */
  void rows(Buffer buffer, long rows, int width, RowReader reader) {
    int most = Math.max(1, PIECE / width);
    for (long row = 0; row < rows; row += most) {
      int count = (int) Math.min(most, rows - row);
      double[] piece = read(buffer, row * width, count * width);
      for (int i = 0; i < count; i++) {
        reader.row(row + i, piece, i * width);
      }
    }
  }

  /** Is given the {@code width} numbers of a row from {@code at} on. */
  @FunctionalInterface
  interface RowReader {
    void row(long row, double[] values, int at);
  }

  /** Fails when two vectors differ by more than storage and sums round. */
  void near(String what, double[] got, double[] expected) {
    double difference = 0;
    double size = 0;
    for (int i = 0; i < expected.length; i++) {
      difference += (got[i] - expected[i]) * (got[i] - expected[i]);
      size += expected[i] * expected[i];
    }
    double bound = ops.dtype() == Dtype.BF16 ? BF16_BOUND : FP32_BOUND;
    double error = Math.sqrt(difference / size);
    // Written so that a NaN fails.
    if (!(error <= bound)) {
      throw new InternalFaultException(
          "scaling: "
              + what
              + " is off by "
              + error
              + " of its size, more than "
              + bound
              + ": nothing was timed there");
    }
  }

  @Override
  public void close() {
    buffers.forEach(Buffer::close);
    staging.close();
  }
}
