package org.lethe.torch;

import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import org.bytedeco.javacpp.BytePointer;
import org.lethe.UserException;
import org.lethe.kernels.Backend;
import org.lethe.kernels.Buffer;
import org.lethe.kernels.HeadOps;

/**
 * The rows' records, coefficients and statistics, in host memory that ops read and write where it
 * lies. Allocated once. One thread at a time.
 */
final class HostRows implements AutoCloseable {
  private final BytePointer memory;
  private final Buffer buffer;
  private final ByteBuffer bytes;
  private final int coefficientsAt;
  private final int statisticsAt;

  HostRows(Backend backend, int capacity) {
    this.coefficientsAt = Math.multiplyExact(capacity, HeadOps.ROW_FIELDS * Integer.BYTES);
    this.statisticsAt = Math.addExact(coefficientsAt, capacity * Float.BYTES);
    int size = Math.addExact(statisticsAt, Math.multiplyExact(capacity, HeadOps.STATISTICS * 4));
    this.memory = Ownership.own(() -> new BytePointer((long) size));
    this.bytes = memory.asBuffer().order(ByteOrder.nativeOrder());
    this.buffer = backend.wrap(memory, size);
  }

  /** The ref of the records, int32 [rows, {@link HeadOps#ROW_FIELDS}]. */
  long records() {
    return buffer.at(0);
  }

  /** The ref of the coefficients, fp32 [rows]. */
  long coefficients() {
    return buffer.at(coefficientsAt);
  }

  /** The ref of the statistics, fp32 [rows, {@link HeadOps#STATISTICS}]. */
  long statistics() {
    return buffer.at(statisticsAt);
  }

  void records(int[] values) {
    bytes.clear().asIntBuffer().put(values);
  }

  void coefficients(double[] values, int rows) {
    if (values.length != rows) {
      throw new UserException(
          values.length + " coefficients for a pass of " + rows + " rows; give one for each");
    }
    bytes.clear();
    for (int row = 0; row < rows; row++) {
      bytes.putFloat(coefficientsAt + row * Float.BYTES, (float) values[row]);
    }
  }

  void ones(int rows) {
    for (int row = 0; row < rows; row++) {
      bytes.putFloat(coefficientsAt + row * Float.BYTES, 1f);
    }
  }

  float[] statistics(int rows) {
    float[] values = new float[rows * HeadOps.STATISTICS];
    bytes.clear().position(statisticsAt).asFloatBuffer().get(values);
    return values;
  }

  @Override
  public void close() {
    buffer.close();
    memory.close();
  }
}
