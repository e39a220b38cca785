package org.lethe.train;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.Map;
import java.util.Set;
import org.junit.jupiter.api.Assumptions;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.EnumSource;
import org.lethe.TestDevice;
import org.lethe.UserException;
import org.lethe.checkpoint.AdapterDirectory;
import org.lethe.checkpoint.ModelDirectory;
import org.lethe.kernels.Backend;
import org.lethe.kernels.Dtype;
import org.lethe.kernels.Ops;
import org.lethe.method.Method;
import org.lethe.method.MethodConfig;
import org.lethe.method.Methods;
import org.lethe.model.BaseStorage;
import org.lethe.model.Generator;
import org.lethe.model.Goldens;
import org.lethe.model.GradientReader;
import org.lethe.model.Model;
import org.lethe.model.ModelConfig;
import org.lethe.model.ModelLogits;
import org.lethe.model.RandomWeights;
import org.lethe.model.WeightPlacement;

/**
 * An embedding on the host: the bits of a model that is whole on its device, and less of the
 * device's memory.
 */
class EmbeddingPlacementTest {
  private static final int CONTEXT = 64;

  private record Found(
      String fingerprint,
      long bytes,
      float[] logits,
      Step.Gradients step,
      Map<String, float[]> gradients,
      List<int[]> greedy) {}

  private static Found run(Dtype dtype, WeightPlacement placement) {
    Method method = Methods.create(MethodConfig.of("NPO+KL"));
    TrainSettings settings = GoldenSteps.settings(1, 1e-3, 64, TrainSettings.OnNonFinite.STOP);
    List<int[]> sequences = new ArrayList<>();
    GoldenSteps.all().subList(0, 2).forEach(s -> sequences.add(Arrays.copyOf(s.tokens().ids(), 6)));
    try (Backend backend = TestDevice.open(2);
        Model model =
            ModelDirectory.load(
                new Ops(backend, dtype), Goldens.path("llama-tiny"), CONTEXT, placement)) {
      assertEquals(placement, model.placement());
      long bytes = backend.allocatedBytes();
      assertEquals(Model.bytes(model.config(), dtype, placement), bytes);
      AdapterDirectory.load(model, Goldens.path("llama-tiny/adapter"), true);
      try (Step step = new Step(model, method, settings, null, 80);
          Generator generator = new Generator(model, 3, 40, true)) {
        Step.Gradients gradients = step.gradients(GoldenSteps.of(method));
        return new Found(
            model.fingerprint(),
            bytes,
            ModelLogits.of(model, sequences, true),
            gradients,
            GradientReader.gradients(model.trainable()),
            generator.greedy(sequences, 5, Set.of()));
      }
    }
  }

  @ParameterizedTest
  @EnumSource(
      value = Dtype.class,
      names = {"F32", "BF16"})
  void theBitsAreThoseOfAModelThatIsWholeOnItsDevice(Dtype dtype) {
    Assumptions.assumeFalse(TestDevice.isCpu());
    ModelConfig sizes = ModelDirectory.config(Goldens.path("llama-tiny")).model();
    long embedding = (long) sizes.vocabularySize() * sizes.hiddenSize() * dtype.bytes();
    for (BaseStorage linears : List.of(BaseStorage.PLAIN, BaseStorage.NF4_DOUBLE)) {
      WeightPlacement whole = WeightPlacement.of(linears);
      Found device = run(dtype, whole);
      Found host = run(dtype, whole.withEmbeddingOnHost());
      assertTrue(Math.abs(device.bytes() - host.bytes() - embedding) < 64, linears.toString());
      assertEquals(device.fingerprint(), host.fingerprint());
      assertArrayEquals(device.logits(), host.logits());
      assertEquals(device.step(), host.step());
      device
          .gradients()
          .forEach((name, g) -> assertArrayEquals(g, host.gradients().get(name), name));
      assertFalse(device.gradients().isEmpty());
      for (int i = 0; i < device.greedy().size(); i++) {
        assertArrayEquals(device.greedy().get(i), host.greedy().get(i));
      }
    }
  }

  private static UserException refusal(ModelConfig sizes) {
    WeightPlacement host = WeightPlacement.PLAIN.withEmbeddingOnHost();
    try (Backend backend = TestDevice.open(1)) {
      UserException e =
          assertThrows(
              UserException.class,
              () ->
                  Model.load(
                      new Ops(backend, Dtype.F32), sizes, new RandomWeights(sizes, 1), host));
      assertEquals(0, backend.allocatedBytes());
      return e;
    }
  }

  private static ModelConfig sizes(boolean tied) {
    return ModelConfig.llama(
        new ModelConfig.Sizes(61, 16, 1, 2, 1, 8, 24, 32), 1e-5f, 10000f, tied);
  }

  @Test
  void whereTheDeviceIsTheHostNothingWouldBeSaved() {
    Assumptions.assumeTrue(TestDevice.isCpu());
    String message = refusal(sizes(false)).getMessage();
    assertTrue(message.contains("memory.embedding=device"), message);
  }

  @Test
  void aTiedHeadStaysOnTheDeviceAndItsEmbeddingWithIt() {
    Assumptions.assumeFalse(TestDevice.isCpu());
    String message = refusal(sizes(true)).getMessage();
    assertTrue(message.contains("tie_word_embeddings"), message);
  }

  @Test
  void whatIsOnTheHostIsFrozen() {
    Assumptions.assumeFalse(TestDevice.isCpu());
    ModelConfig sizes = sizes(false);
    try (Backend backend = TestDevice.open(1);
        Model model =
            Model.load(
                new Ops(backend, Dtype.F32),
                sizes,
                new RandomWeights(sizes, 1),
                WeightPlacement.PLAIN.withEmbeddingOnHost())) {
      UserException e = assertThrows(UserException.class, model::trainWeights);
      assertTrue(e.getMessage().contains("memory.embedding=device"), e.getMessage());
    }
  }
}
