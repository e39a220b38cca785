package org.lethe.run;

import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import org.lethe.data.CounterRng;
import org.lethe.kernels.Buffer;
import org.lethe.kernels.Dtype;
import org.lethe.kernels.Ops;
import org.lethe.kernels.Staging;

/**
 * Device memory of the kernels that {@link Bench} times, with values that either storage holds
 * exactly, so that a check sees the kernel's rounding and not that of its inputs. Only the
 * backend's thread may call it.
 */
final class Operands implements AutoCloseable {
  private static final int PIECE = 1 << 20;
  private static final float STEPS = 128;

  private final Ops ops;
  private final Staging staging = new Staging(PIECE * Float.BYTES);
  private final List<Buffer> buffers = new ArrayList<>();

  Operands(Ops ops) {
    this.ops = ops;
  }

  /** Values k/128 with -128 &lt;= k &lt; 128: eight bits of significand, which bf16 has. */
  static float[] exact(int n, long seed, long stream) {
    float[] values = new float[n];
    long bits = 0;
    for (int i = 0; i < n; i++) {
      bits = i % Long.BYTES == 0 ? CounterRng.bits(seed, stream, i) : bits >>> Byte.SIZE;
      values[i] = (byte) bits / STEPS;
    }
    return values;
  }

  /** A buffer in storage that holds {@code values}. */
  Buffer storage(float[] values) {
    Buffer wide = keep(ops.backend().allocate((long) values.length * Float.BYTES));
    for (int at = 0; at < values.length; at += PIECE) {
      int n = Math.min(PIECE, values.length - at);
      staging.upload(Arrays.copyOfRange(values, at, at + n), n, wide, (long) at * Float.BYTES);
    }
    if (ops.dtype() == Dtype.F32) {
      return wide;
    }
    Buffer narrow = storage(values.length);
    ops.convert(values.length, Dtype.F32, wide.at(0), ops.dtype(), narrow.at(0));
    return narrow;
  }

  /** A buffer of {@code n} numbers in storage, zeroed. */
  Buffer storage(long n) {
    return bytes(n * ops.dtype().bytes());
  }

  /** A buffer of {@code n} floats, zeroed. */
  Buffer floats(long n) {
    return bytes(n * Float.BYTES);
  }

  Buffer bytes(long n) {
    return keep(ops.backend().allocate(n));
  }

  /** A buffer that holds these ints. */
  Buffer ints(int[] values) {
    Buffer buffer = bytes((long) values.length * Integer.BYTES);
    staging.upload(values, values.length, buffer, 0);
    return buffer;
  }

  /** The first {@code n} floats of a buffer. */
  float[] readFloats(Buffer buffer, int n) {
    float[] values = new float[n];
    float[] piece = new float[Math.min(PIECE, n)];
    for (int at = 0; at < n; at += PIECE) {
      int count = Math.min(PIECE, n - at);
      staging.download(buffer, (long) at * Float.BYTES, piece, count);
      System.arraycopy(piece, 0, values, at, count);
    }
    return values;
  }

  /** The first {@code n} numbers, in storage, of a buffer. */
  float[] readStorage(Buffer buffer, int n) {
    if (ops.dtype() == Dtype.F32) {
      return readFloats(buffer, n);
    }
    try (Buffer wide = ops.backend().allocate((long) n * Float.BYTES)) {
      ops.convert(n, ops.dtype(), buffer.at(0), Dtype.F32, wide.at(0));
      return readFloats(wide, n);
    }
  }

  private Buffer keep(Buffer buffer) {
    buffers.add(buffer);
    return buffer;
  }

  @Override
  public void close() {
    buffers.forEach(Buffer::close);
    staging.close();
  }
}
