package org.lethe.train;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import org.junit.jupiter.api.Assumptions;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.EnumSource;
import org.junit.jupiter.params.provider.MethodSource;
import org.lethe.TestDevice;
import org.lethe.UserException;
import org.lethe.checkpoint.AdapterDirectory;
import org.lethe.checkpoint.ModelDirectory;
import org.lethe.data.TokenSequence;
import org.lethe.kernels.Backend;
import org.lethe.kernels.Dtype;
import org.lethe.kernels.Ops;
import org.lethe.method.Method;
import org.lethe.method.MethodConfig;
import org.lethe.method.Methods;
import org.lethe.method.Role;
import org.lethe.model.ActivationPolicy;
import org.lethe.model.Decoder;
import org.lethe.model.FamilyGoldenTest;
import org.lethe.model.Goldens;
import org.lethe.model.GradientReader;
import org.lethe.model.LoraConfig;
import org.lethe.model.Model;
import org.lethe.model.ModelConfig;
import org.lethe.model.RandomWeights;

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

  private static Found run(
      Model model, Method method, TrainSettings settings, ActivationPolicy policy) {
    List<StepSequence> sequences = GoldenSteps.of(method);
    int largest = StepSizing.largestPiece(method, settings, null, List.of(sequences));
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
      Found kept = run(model, method, settings, ActivationPolicy.KEEP);
      assertTrue(kept.step().microBatches() > 1);
      long bytes = kept.bytes();
      for (int recomputed = 1; recomputed <= LAYERS; recomputed++) {
        Found again = run(model, method, settings, ActivationPolicy.recompute(recomputed));
        assertSame(kept, again, recomputed + " layers, ");
        // One layer that shares its memory with none saves nothing.
        assertTrue(recomputed == 1 ? again.bytes() == bytes : again.bytes() < bytes);
        bytes = again.bytes();
      }
    }
  }

  /** More layers than places, some of them computed again, and steps that follow each other. */
  @Test
  void layersOnTheHostComeBackAsTheyWere() {
    ModelConfig sizes =
        ModelConfig.llama(new ModelConfig.Sizes(64, 32, 7, 2, 2, 16, 48, 64), 1e-5f, 10000, true);
    Method method = Methods.fineTuning();
    TrainSettings settings = GoldenSteps.settings(1, 1e-3, 24, TrainSettings.OnNonFinite.STOP);
    List<StepSequence> step = new ArrayList<>();
    for (int i = 0; i < 5; i++) {
      int[] ids = {1 + i, 2, 3 + 2 * i, 4, 5, 6, 7 + i, 8, 9};
      step.add(new StepSequence(Role.RETAIN, i, new TokenSequence(ids, 1), "row " + i));
    }
    List<ActivationPolicy> policies =
        List.of(
            ActivationPolicy.KEEP,
            ActivationPolicy.offload(7),
            ActivationPolicy.offload(4),
            new ActivationPolicy(2, 5),
            new ActivationPolicy(3, 3),
            new ActivationPolicy(6, 1));
    List<Map<String, float[]>> gradients = new ArrayList<>();
    List<Long> bytes = new ArrayList<>();
    try (Backend backend = TestDevice.open(2)) {
      for (ActivationPolicy policy : policies) {
        try (Model model =
            Model.load(new Ops(backend, Dtype.F32), sizes, new RandomWeights(sizes, 1))) {
          model.addLora(LoraConfig.all(4, 8), 1);
          try (Step made = new Step(model, method, settings, null, 24, Sharding.none(), policy)) {
            bytes.add(made.bytes());
            for (int i = 0; i < 3; i++) {
              assertTrue(made.run(i, step, 1e-2).microBatches() > 1);
            }
            gradients.add(GradientReader.gradients(model.trainable()));
          }
        }
        assertEquals(0, backend.allocatedBytes());
      }
    }
    for (int i = 1; i < policies.size(); i++) {
      for (Map.Entry<String, float[]> kept : gradients.get(0).entrySet()) {
        assertArrayEquals(
            kept.getValue(), gradients.get(i).get(kept.getKey()), policies.get(i) + kept.getKey());
      }
      assertTrue(bytes.get(i) < bytes.get(0), policies.get(i).toString());
    }
  }

  @Test
  void onTheHostNothingIsMovedToTheHost() {
    Assumptions.assumeTrue(System.getProperty("lethe.test.device", "cpu").startsWith("cpu"));
    TrainSettings settings =
        GoldenSteps.settings(1, 1e-3, 64, TrainSettings.OnNonFinite.STOP)
            .with(new MemorySettings(0, MemorySettings.Activations.OFFLOAD));
    try (Backend backend = TestDevice.open(1);
        Model model = GoldenSteps.model(backend, Dtype.F32)) {
      model.addLora(LoraConfig.all(4, 8), 1);
      long held = backend.allocatedBytes();
      UserException e =
          assertThrows(
              UserException.class, () -> new Step(model, Methods.fineTuning(), settings, null, 9));
      assertTrue(e.getMessage().contains("memory.activations=recompute"), e.getMessage());
      assertEquals(held, backend.allocatedBytes());
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
      int layers = model.config().layers();
      for (ActivationPolicy policy :
          List.of(
              ActivationPolicy.KEEP,
              ActivationPolicy.recompute(layers),
              ActivationPolicy.offload(layers))) {
        found.add(run(model, method, settings, policy));
      }
    }
    assertSame(found.get(0), found.get(1), family);
    assertSame(found.get(0), found.get(2), family);
  }

  @Test
  void whatIsPlannedIsWhatIsTaken() {
    Method method = Methods.create(MethodConfig.of("NPO+KL"));
    TrainSettings settings = GoldenSteps.settings(1, 1e-3, 64, TrainSettings.OnNonFinite.STOP);
    try (Backend backend = TestDevice.open(2);
        Model model = GoldenSteps.model(backend, Dtype.F32)) {
      model.addLora(LoraConfig.all(4, 8), 1);
      StepMemory memory =
          StepMemory.of(model, settings, StepSizing.headRows(method, settings, null));
      for (int recomputed = 0; recomputed <= LAYERS; recomputed++) {
        ActivationPolicy policy = new ActivationPolicy(recomputed, LAYERS - recomputed);
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
