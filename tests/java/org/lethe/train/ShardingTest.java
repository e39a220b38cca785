package org.lethe.train;

import static org.junit.jupiter.api.Assertions.assertEquals;

import java.util.List;
import org.junit.jupiter.api.Test;
import org.lethe.TestDevice;
import org.lethe.kernels.Backend;
import org.lethe.kernels.Dtype;
import org.lethe.kernels.Staging;
import org.lethe.method.Method;
import org.lethe.method.MethodConfig;
import org.lethe.method.Methods;
import org.lethe.model.LoraConfig;
import org.lethe.model.Model;

/** What a step takes of the host's memory for its shards. */
class ShardingTest {
  private static final long SUMS = 4 << 20;

  /** Bytes outside the heap that a step holds. */
  private static long held(Model model, Sharding sharding) {
    Method method = Methods.create(MethodConfig.of("GA+GD"));
    TrainSettings settings = GoldenSteps.settings(1, 1e-3, 64, TrainSettings.OnNonFinite.STOP);
    int largest = StepSizing.largestPiece(method, settings, null, List.of(GoldenSteps.of(method)));
    long before = Staging.allBytes();
    try (Step step = new Step(model, method, settings, null, largest, sharding)) {
      step.run(0, GoldenSteps.of(method), 1e-3);
      return Staging.allBytes() - before;
    }
  }

  /** Where nothing is summed there is nothing to sum in. */
  @Test
  void oneShardTakesNoMemoryForSums() {
    try (Backend backend = TestDevice.open(1);
        Model model = GoldenSteps.model(backend, Dtype.F32)) {
      model.addLora(LoraConfig.all(2, 4), 1);
      // What is made once comes first.
      held(model, Sharding.local(2));
      long one = held(model, Sharding.none());
      assertEquals(one, held(model, Sharding.local(1)));
      assertEquals(SUMS, held(model, Sharding.local(2)) - one);
    }
  }
}
