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
