package org.lethe.train;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertNotEquals;

import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.Set;
import java.util.TreeMap;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;
import org.lethe.TestDevice;
import org.lethe.checkpoint.AdapterDirectory;
import org.lethe.checkpoint.ModelDirectory;
import org.lethe.checkpoint.ModelExport;
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
import org.lethe.model.LoraConfig;
import org.lethe.model.LoraTargets;
import org.lethe.model.Model;
import org.lethe.model.ModelLogits;
import org.lethe.model.WeightPlacement;

/**
 * A base that stays in 4-bit codes against a plain model of the weights that those codes mean,
 * which is held to transformers and PEFT elsewhere: the same bits.
 */
class QuantizedBaseStepTest {
  private static final int CONTEXT = 64;

  @TempDir Path directory;

  /** What a model gives: logits with and without an adapter, gradients, steps, greedy tokens. */
  private record Given(
      float[] base,
      float[] adapted,
      double loss,
      Map<String, List<Float>> gradients,
      List<Double> losses,
      float[] trained,
      List<List<Integer>> greedy) {

    void assertSame(Given other) {
      assertArrayEquals(base, other.base);
      assertArrayEquals(adapted, other.adapted);
      assertEquals(loss, other.loss);
      assertEquals(gradients, other.gradients);
      assertEquals(losses, other.losses);
      assertArrayEquals(trained, other.trained);
      assertEquals(greedy, other.greedy);
    }
  }

  private static Given of(Ops ops, Path path, BaseStorage storage) {
    Method method = Methods.create(MethodConfig.of("NPO+KL"));
    TrainSettings settings = GoldenSteps.settings(2, 1e-2, 4096, TrainSettings.OnNonFinite.STOP);
    List<int[]> sequences = new ArrayList<>();
    GoldenSteps.all().subList(0, 2).forEach(s -> sequences.add(Arrays.copyOf(s.tokens().ids(), 6)));
    Path adapter = Goldens.path("llama-tiny/adapter");
    LoraConfig drops = new LoraConfig(4, 8, false, 0.1, LoraTargets.ALL, Map.of(), Map.of());
    // With room for them, where the device wants it.
    try (Model model = load(ops, path, storage, AdapterDirectory.config(adapter));
        Model trains = load(ops, path, storage, drops)) {
      float[] base = ModelLogits.of(model, sequences, false);
      AdapterDirectory.load(model, adapter, true);
      float[] adapted = ModelLogits.of(model, sequences, true);
      double loss;
      Map<String, List<Float>> gradients = new TreeMap<>();
      try (Step step = new Step(model, method, settings, null, 4096)) {
        loss = step.gradients(GoldenSteps.of(method)).loss();
        GradientReader.gradients(model.trainable()).forEach((n, g) -> gradients.put(n, list(g)));
      }
      List<List<Integer>> greedy = new ArrayList<>();
      try (Generator generator = new Generator(model, 3, 40, true)) {
        for (int[] ids : generator.greedy(sequences, 5, Set.of())) {
          greedy.add(Arrays.stream(ids).boxed().toList());
        }
      }
      trains.addLora(drops, 3);
      List<Double> losses = new ArrayList<>();
      try (Trainer trainer =
          new Trainer(
              trains, method, settings, GoldenSteps.repeated(GoldenSteps.of(method)), null)) {
        trainer.run(report -> losses.add(report.loss()));
      }
      return new Given(base, adapted, loss, gradients, losses, trains.lora().values(), greedy);
    }
  }

  private static Model load(Ops ops, Path path, BaseStorage storage, LoraConfig adapters) {
    return ModelDirectory.load(ops, path, CONTEXT, WeightPlacement.of(storage), List.of(adapters));
  }

  private static List<Float> list(float[] values) {
    List<Float> all = new ArrayList<>();
    for (float v : values) {
      all.add(v);
    }
    return all;
  }

  @ParameterizedTest
  @CsvSource({"llama-nf4, NF4, F32", "llama-nf4-double, NF4_DOUBLE, BF16"})
  void codesAsTheyAreStoredGiveTheBitsOfTheDequantisedModel(
      String golden, BaseStorage storage, Dtype dtype) {
    Path packed = Goldens.path("quant").resolve(golden);
    Path plain = directory.resolve("plain");
    ModelExport.write(
        new ModelExport.Request(
            packed, Optional.empty(), plain, false, Optional.empty(), Long.MAX_VALUE));
    try (Backend backend = TestDevice.open(2)) {
      Ops ops = new Ops(backend, dtype);
      Given expected = of(ops, plain, BaseStorage.PLAIN);
      expected.assertSame(of(ops, packed, storage));
      // Another base would be seen.
      float[] other = of(ops, Goldens.path("llama-tiny"), BaseStorage.PLAIN).base();
      assertNotEquals(list(expected.base()), list(other));
    }
  }
}
