package org.lethe.train;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.EnumSource;
import org.junit.jupiter.params.provider.MethodSource;
import org.lethe.TestDevice;
import org.lethe.checkpoint.AdapterDirectory;
import org.lethe.checkpoint.ModelDirectory;
import org.lethe.kernels.Backend;
import org.lethe.kernels.Dtype;
import org.lethe.kernels.Ops;
import org.lethe.method.Method;
import org.lethe.method.MethodConfig;
import org.lethe.method.Methods;
import org.lethe.model.ActivationPolicy;
import org.lethe.model.Decoder;
import org.lethe.model.FamilyGoldenTest;
import org.lethe.model.Goldens;
import org.lethe.model.GradientReader;
import org.lethe.model.LoraConfig;
import org.lethe.model.Model;

/**
 * Layers whose activations are computed again: the same numbers, in less memory. On the CPU, where
 * a row's bits do not depend on the rows beside it, they are the same bits.
 */
class ActivationPolicyTest {
  private static final int LAYERS = 3;

  static List<String> families() {
    return FamilyGoldenTest.families();
  }

  private record Found(Step.Gradients step, Map<String, float[]> gradients, long bytes) {}

  private static Found run(Model model, Method method, TrainSettings settings, int recomputed) {
    List<StepSequence> sequences = GoldenSteps.of(method);
    int largest = Step.largestPiece(method, settings, null, List.of(sequences));
    ActivationPolicy policy = new ActivationPolicy(recomputed);
    try (Step step = new Step(model, method, settings, null, largest, Sharding.none(), policy)) {
      Step.Gradients g = step.gradients(sequences);
      return new Found(g, GradientReader.gradients(model.trainable()), step.bytes());
    }
  }

  private static void assertSame(Found kept, Found again, String what) {
    assertEquals(kept.step(), again.step(), what);
    kept.gradients()
        .forEach((name, g) -> assertArrayEquals(g, again.gradients().get(name), what + name));
  }

  /** The reference's rows stand in the batch, and are not computed again. */
  @ParameterizedTest
  @EnumSource(
      value = Dtype.class,
      names = {"F32", "BF16"})
  void gradientsAreTheSameBitsHoweverManyLayersAreComputedAgain(Dtype dtype) {
    Method method = Methods.create(MethodConfig.of("NPO+KL"));
    TrainSettings settings = GoldenSteps.settings(1, 1e-3, 64, TrainSettings.OnNonFinite.STOP);
    try (Backend backend = TestDevice.open(2);
        Model model = GoldenSteps.model(backend, dtype)) {
      assertEquals(LAYERS, model.config().layers());
      AdapterDirectory.load(model, Goldens.path("llama-tiny/adapter"), true);
      Found kept = run(model, method, settings, 0);
      assertTrue(kept.step().microBatches() > 1);
      long bytes = kept.bytes();
      for (int recomputed = 1; recomputed <= LAYERS; recomputed++) {
        Found again = run(model, method, settings, recomputed);
        assertSame(kept, again, recomputed + " layers, ");
        // One layer that shares its memory with none saves nothing.
        assertTrue(recomputed == 1 ? again.bytes() == bytes : again.bytes() < bytes);
        bytes = again.bytes();
      }
    }
  }

  /** Norms after the blocks, blocks in parallel, norms of heads, windows: all weights train. */
  @ParameterizedTest
  @MethodSource("families")
  void everyFamilyComputesItsLayersAgain(String family) {
    Method method = Methods.fineTuning();
    TrainSettings settings = GoldenSteps.settings(1, 1e-3, 4096, TrainSettings.OnNonFinite.STOP);
    List<Found> found = new ArrayList<>();
    try (Backend backend = TestDevice.open(2);
        Model model =
            ModelDirectory.load(
                new Ops(backend, Dtype.F32), Goldens.path("families/" + family), 64)) {
      model.trainWeights();
      for (int recomputed : new int[] {0, model.config().layers()}) {
        found.add(run(model, method, settings, recomputed));
      }
    }
    assertSame(found.get(0), found.get(1), family);
  }

  @Test
  void whatIsPlannedIsWhatIsTaken() {
    Method method = Methods.create(MethodConfig.of("NPO+KL"));
    TrainSettings settings = GoldenSteps.settings(1, 1e-3, 64, TrainSettings.OnNonFinite.STOP);
    try (Backend backend = TestDevice.open(2);
        Model model = GoldenSteps.model(backend, Dtype.F32)) {
      model.addLora(LoraConfig.all(4, 8), 1);
      StepMemory memory = StepMemory.of(model, Step.headRows(method, settings, null));
      for (int recomputed = 0; recomputed <= LAYERS; recomputed++) {
        ActivationPolicy policy = new ActivationPolicy(recomputed);
        long before = backend.allocatedBytes();
        try (Step step = new Step(model, method, settings, null, 80, Sharding.none(), policy)) {
          assertEquals(memory.bytes(80, policy), step.bytes());
          assertEquals(before + step.bytes(), backend.allocatedBytes());
          assertEquals(
              memory.activations(80, policy),
              Decoder.bytes(model.config(), Dtype.F32, model.adapterWidths(), 80, policy));
        }
      }
    }
  }
}
