package org.lethe.bench.jmh;

import java.util.concurrent.TimeUnit;
import org.bytedeco.pytorch.global.torch;
import org.lethe.kernels.Dtype;
import org.lethe.torch.TorchLlama;
import org.lethe.torch.TorchStep;
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
 * The step of {@link WholeStepBench} in libtorch alone, with the same weights, adapters and
 * sequences.
 */
@State(Scope.Thread)
@BenchmarkMode(Mode.AverageTime)
@OutputTimeUnit(TimeUnit.MILLISECONDS)
@Fork(1)
@Warmup(iterations = 2, time = 3)
@Measurement(iterations = 5, time = 4)
public class TorchStepBench {
  private static final int COMPARED_STEPS = 3;
  private static final double FP32_TOLERANCE = 1e-4;
  // Storage's own rounding allows a bf16 loss no closer look.
  private static final double BF16_TOLERANCE = 1e-2;

  /** Of the model: 45M has 4 layers, d 512, 8 heads, feed-forward 1344, V 32000. */
  @Param("45M")
  public String size;

  /** Storage of weights and activations; adapters and their update are of the same in libtorch. */
  @Param({"F32", "BF16"})
  public Dtype storage;

  /** Forget loss and retain loss; losses per sequence are not written for libtorch. */
  @Param("ME+GD")
  public String method;

  private TorchLlama llama;
  private TorchStep step;
  private TrainedStep lethe;

  /** Makes both, and compares the losses of their first steps. */
  @Setup
  public void open() {
    torch.set_num_threads(Runtime.getRuntime().availableProcessors());
    torch.ScalarType type =
        storage == Dtype.F32 ? torch.ScalarType.Float : torch.ScalarType.BFloat16;
    lethe = new TrainedStep(size, storage, method, 8, 128);
    llama = TorchLlama.copyOf(lethe.model(), type);
    step =
        new TorchStep(
            llama, Models.method(method), TrainedStep.settings(), TorchStep.Batching.PADDED);
    double tolerance = storage == Dtype.F32 ? FP32_TOLERANCE : BF16_TOLERANCE;
    for (int i = 0; i < COMPARED_STEPS; i++) {
      double expected = step.run(lethe.sequences());
      Check.near("the loss of step " + i, lethe.run().loss(), expected, tolerance);
    }
  }

  /** Frees everything on the thread that took it. */
  @TearDown
  public void close() {
    step.close();
    llama.close();
    lethe.close();
  }

  @Benchmark
  @Shape("TorchStep.run: LoRA r=8 on all linears, 8 + 8 sequences of 128 tokens, padded batch")
  public double step() {
    return step.run(lethe.sequences());
  }
}
