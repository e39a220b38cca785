package org.lethe.run;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.util.List;
import org.junit.jupiter.api.Test;
import org.lethe.kernels.Backend;
import org.lethe.kernels.Dtype;
import org.lethe.kernels.Ops;
import org.lethe.method.Method;
import org.lethe.method.MethodConfig;
import org.lethe.method.Methods;
import org.lethe.model.Model;
import org.lethe.model.ModelConfig;
import org.lethe.model.RandomWeights;
import org.lethe.train.StepSequence;

class GemmFloorTest {
  /**
   * Counted by hand: two layers of d 4, q|k|v 8 wide, gate, up and down 3 wide, V 10; of two
   * sequences of 9 tokens the head looks at 8, as entropy is everywhere, and at the answer's 6.
   */
  @Test
  void productsThatAStepLeavesOutAreNotCounted() {
    ModelConfig sizes =
        ModelConfig.llama(new ModelConfig.Sizes(10, 4, 2, 2, 1, 2, 3, 16), 1e-5f, 10000, false);
    Method method = Methods.create(MethodConfig.of("ME+GD"));
    List<StepSequence> step = Bench.sequences(method, 10, 1, 9);
    assertEquals(2, step.size());
    double into = 4 * 8;
    double behind = 4 * 4 + 3 * 4 * 3;
    int tokens = 18;
    int rows = 8 + 6;
    // The first layer's q|k|v go forward alone; behind its attention the last one has those rows.
    double linears = 3 * 2 * into * tokens + 4 * behind * (tokens + rows);
    assertEquals(linears + 4 * 4 * 10 * rows, GemmFloor.flops(sizes, method, step, 0));
  }

  /** Whatever is timed is a time, and leaves the device as it was. */
  @Test
  void aStepsOwnProductsAreTimedAlone() {
    ModelConfig sizes = Bench.size("4M");
    Method method = Methods.create(MethodConfig.of("ME+GD"));
    List<StepSequence> step = Bench.sequences(method, sizes.vocabularySize(), 2, 16);
    for (Dtype dtype : List.of(Dtype.F32, Dtype.BF16)) {
      try (Backend backend = Backend.open("cpu", 1);
          Model model = Model.load(new Ops(backend, dtype), sizes, new RandomWeights(sizes, 1))) {
        long held = backend.allocatedBytes();
        double all = GemmFloor.alone(model, method, step, 0);
        assertTrue(all > 0 && Double.isFinite(all), "took " + all + " ms");
        assertTrue(GemmFloor.alone(model, method, step, 8) > 0);
        assertEquals(held, backend.allocatedBytes());
      }
    }
  }
}
