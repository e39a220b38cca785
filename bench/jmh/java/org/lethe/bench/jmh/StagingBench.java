package org.lethe.bench.jmh;

import java.util.Arrays;
import java.util.concurrent.TimeUnit;
import org.lethe.kernels.Backend;
import org.lethe.kernels.Buffer;
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

/** Numbers to a device and back, by size. */
@State(Scope.Thread)
@BenchmarkMode(Mode.AverageTime)
@OutputTimeUnit(TimeUnit.NANOSECONDS)
@Fork(1)
@Warmup(iterations = 3, time = 1)
@Measurement(iterations = 5, time = 1)
public class StagingBench {
  /** Floats of a transfer. */
  @Param({"16", "1024", "65536", "1048576"})
  public int floats;

  private Backend backend;
  private Staging staging;
  private Buffer buffer;
  private float[] values;
  private float[] back;

  /** Opens a backend on the measuring thread, and checks a round trip. */
  @Setup
  public void open() {
    backend = Backend.open("cpu");
    staging = new Staging(floats * Float.BYTES);
    buffer = backend.allocate((long) floats * Float.BYTES);
    values = new float[floats];
    back = new float[floats];
    for (int i = 0; i < floats; i++) {
      values[i] = i * 0.5f;
    }
    upload();
    Check.that("what was uploaded comes back", Arrays.equals(download(), values));
  }

  /** Frees everything on the thread that took it. */
  @TearDown
  public void close() {
    staging.close();
    backend.close();
  }

  @Benchmark
  @Shape("Staging.upload: float[] to a buffer")
  public void upload() {
    staging.upload(values, floats, buffer, 0);
  }

  @Benchmark
  @Shape("Staging.download: a buffer to float[]")
  public float[] download() {
    staging.download(buffer, 0, back, floats);
    return back;
  }
}
