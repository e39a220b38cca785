package org.lethe.bench.jmh;

import java.util.concurrent.TimeUnit;
import org.lethe.kernels.Dtype;
import org.lethe.train.StepReport;
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

/** A whole training step of a model of 45 million parameters. */
@State(Scope.Thread)
@BenchmarkMode(Mode.AverageTime)
@OutputTimeUnit(TimeUnit.MILLISECONDS)
@Fork(1)
@Warmup(iterations = 2, time = 3)
@Measurement(iterations = 5, time = 4)
public class WholeStepBench {
  /** Of the model: 45M has 4 layers, d 512, 8 heads, feed-forward 1344, V 32000. */
  @Param("45M")
  public String size;

  /** Storage of weights and activations. */
  @Param({"F32", "BF16"})
  public Dtype storage;

  /** Forget loss and retain loss. */
  @Param({"ME+GD", "NPO+KL"})
  public String method;

  private TrainedStep step;

  /** Makes the model on the measuring thread, and checks the step. */
  @Setup
  public void open() {
    step = new TrainedStep(size, storage, method, 8, 128);
    step.check();
  }

  /** Frees everything on the thread that took it. */
  @TearDown
  public void close() {
    step.close();
  }

  @Benchmark
  @Shape("Step.run: LoRA r=8 on all linears, 8 + 8 sequences of 128 tokens, reference in the batch")
  public StepReport step() {
    return step.run();
  }
}
