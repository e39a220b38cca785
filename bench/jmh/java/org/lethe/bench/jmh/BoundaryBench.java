package org.lethe.bench.jmh;

import java.util.Arrays;
import java.util.concurrent.TimeUnit;
import org.bytedeco.javacpp.FloatPointer;
import org.lethe.internal.abi.Abi;
import org.lethe.kernels.AttentionShape;
import org.lethe.kernels.Backend;
import org.lethe.kernels.Buffer;
import org.lethe.kernels.Dtype;
import org.lethe.kernels.NormShape;
import org.lethe.kernels.Ops;
import org.lethe.kernels.Staging;
import org.openjdk.jmh.annotations.Benchmark;
import org.openjdk.jmh.annotations.BenchmarkMode;
import org.openjdk.jmh.annotations.Fork;
import org.openjdk.jmh.annotations.Measurement;
import org.openjdk.jmh.annotations.Mode;
import org.openjdk.jmh.annotations.OutputTimeUnit;
import org.openjdk.jmh.annotations.Param;
import org.openjdk.jmh.annotations.Scope;
import org.openjdk.jmh.annotations.Setup;
import org.openjdk.jmh.annotations.State;
import org.openjdk.jmh.annotations.TearDown;
import org.openjdk.jmh.annotations.Warmup;

/**
 * What an op call costs beside its work: ops on so few numbers that the work is a few nanoseconds,
 * and the call into native code alone.
 */
@State(Scope.Thread)
@BenchmarkMode(Mode.AverageTime)
@OutputTimeUnit(TimeUnit.NANOSECONDS)
@Fork(1)
@Warmup(iterations = 3, time = 1)
@Measurement(iterations = 5, time = 1)
public class BoundaryBench {
  private static final int N = 16;
  private static final int BYTES = N * Float.BYTES;

  /** Of the backend: with several, an op on rows wakes the others even for one row. */
  @Param({"1", "2"})
  public int threads;

  private Backend backend;
  private Ops ops;
  private Staging staging;
  private Buffer a;
  private Buffer b;
  private Buffer ones;
  private Buffer statistics;
  private Buffer segments;
  private AttentionShape shape;
  private FloatPointer memory;
  private byte[] host;

  /** Opens a backend on the measuring thread, and checks each op's result. */
  @Setup
  public void open() {
    backend = Backend.open("cpu", threads);
    ops = new Ops(backend, Dtype.F32);
    staging = new Staging(BYTES);
    a = backend.allocate(BYTES);
    b = backend.allocate(BYTES);
    ones = backend.allocate(BYTES);
    statistics = backend.allocate(BYTES);
    segments = backend.allocate(AttentionShape.SEGMENT_FIELDS * Integer.BYTES);
    staging.upload(new int[] {0, 1, 0, 1, 0, 0}, AttentionShape.SEGMENT_FIELDS, segments, 0);
    shape = new AttentionShape(1, 1, N, 0.25f, 1, segments.at(0), 1, N, 1, N);
    memory = new FloatPointer((long) N);
    host = new byte[BYTES];
    check();
  }

  private void check() {
    float[] x = new float[N];
    float[] one = new float[N];
    Arrays.fill(one, 1f);
    double squares = 0;
    for (int i = 0; i < N; i++) {
      x[i] = i - 3.5f;
      squares += (double) x[i] * x[i];
    }
    staging.upload(one, N, ones, 0);
    staging.upload(x, N, a, 0);
    copy64();
    Check.that("a copy holds what was copied", Arrays.equals(read(b), x));
    rmsnormRow();
    double scale = 1 / Math.sqrt(squares / N + 1e-5);
    float[] normed = read(b);
    for (int i = 0; i < N; i++) {
      Check.near("a normed value", normed[i], x[i] * scale, 1e-6);
    }
    attentionToken();
    Check.that("a token that sees itself alone gets its value", Arrays.equals(read(b), x));
    zero64();
    Check.that("zeros", Arrays.equals(read(b), new float[N]));
    Check.that("the ABI of the header", Abi.lethe_abi() == Abi.LETHE_ABI);
  }

  private float[] read(Buffer buffer) {
    float[] values = new float[N];
    staging.download(buffer, 0, values, N);
    return values;
  }

  /** Frees everything on the thread that took it. */
  @TearDown
  public void close() {
    memory.close();
    staging.close();
    backend.close();
  }

  @Benchmark
  @Shape("64 bytes set to 0 by Java: what the work itself may cost")
  public byte[] baselineZero64() {
    Arrays.fill(host, (byte) 0);
    return host;
  }

  @Benchmark
  @Shape("a native function without arguments: the JNI transition alone")
  public int nativeCall() {
    return Abi.lethe_abi();
  }

  @Benchmark
  @Shape("Ops.zero, 64 bytes")
  public void zero64() {
    ops.zero(b.at(0), BYTES);
  }

  @Benchmark
  @Shape("Ops.copy, 64 bytes")
  public void copy64() {
    ops.copy(b.at(0), a.at(0), BYTES);
  }

  @Benchmark
  @Shape("Ops.rmsnormForward, one row of 16")
  public void rmsnormRow() {
    ops.normForward(
        NormShape.rms(1, N, 1e-5f), a.at(0), ones.at(0), 0, 0, b.at(0), 0, statistics.at(0));
  }

  @Benchmark
  @Shape("Ops.attentionForward, one token, one head of 16: the most arguments an op has")
  public void attentionToken() {
    ops.attentionForward(shape, a.at(0), a.at(0), a.at(0), b.at(0), statistics.at(0));
  }

  @Benchmark
  @Shape("Buffer.at: a ref for an op")
  public long ref() {
    return a.at(32);
  }

  @Benchmark
  @Shape("Backend.allocate and close, 64 bytes")
  public long allocateAndClose() {
    try (Buffer buffer = backend.allocate(BYTES)) {
      return buffer.at(0);
    }
  }

  @Benchmark
  @Shape("Backend.wrap and close, 64 bytes of another library's")
  public long wrapAndClose() {
    try (Buffer buffer = backend.wrap(memory, BYTES)) {
      return buffer.at(0);
    }
  }
}
