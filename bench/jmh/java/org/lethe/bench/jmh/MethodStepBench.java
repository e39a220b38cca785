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

/** A whole training step of a small model by each method, the reference in the same batch. */
@State(Scope.Thread)
@BenchmarkMode(Mode.AverageTime)
@OutputTimeUnit(TimeUnit.MILLISECONDS)
@Fork(1)
@Warmup(iterations = 2, time = 1)
@Measurement(iterations = 5, time = 1)
public class MethodStepBench {
  /** Forget loss and retain loss. */
  @Param({
    "GA", "GA+GD", "GA+KL", "GA+AP", "NPO", "NPO+GD", "NPO+KL", "NPO+AP", "DPO", "DPO+GD",
    "DPO+KL", "DPO+AP", "IDK", "IDK+GD", "IDK+KL", "IDK+AP", "ME", "ME+GD", "ME+KL", "ME+AP"
  })
  public String method;

  /** Of the model. */
  @Param("4M")
  public String size;

  private TrainedStep step;

  /** Makes the model on the measuring thread, and checks the step. */
  @Setup
  public void open() {
    step = new TrainedStep(size, Dtype.F32, method, 4, 64);
    step.check();
  }

  /** Frees everything on the thread that took it. */
  @TearDown
  public void close() {
    step.close();
  }

  @Benchmark
  @Shape("Step.run: fp32, LoRA r=8 on all linears, 4 sequences of 64 tokens of each role it needs")
  public StepReport step() {
    return step.run();
  }
}
