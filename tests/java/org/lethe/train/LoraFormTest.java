package org.lethe.train;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.io.ByteArrayOutputStream;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.Map;
import java.util.TreeMap;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;
import org.lethe.TestDevice;
import org.lethe.UserException;
import org.lethe.checkpoint.AdapterDirectory;
import org.lethe.checkpoint.ModelDirectory;
import org.lethe.kernels.Backend;
import org.lethe.kernels.Dtype;
import org.lethe.kernels.LinearOps;
import org.lethe.kernels.Ops;
import org.lethe.kernels.Staging;
import org.lethe.method.Method;
import org.lethe.method.MethodConfig;
import org.lethe.method.Methods;
import org.lethe.model.AdapterRoom;
import org.lethe.model.BaseStorage;
import org.lethe.model.DeviceWeights;
import org.lethe.model.Goldens;
import org.lethe.model.GradientReader;
import org.lethe.model.LoraConfig;
import org.lethe.model.Model;
import org.lethe.model.ModelConfig;
import org.lethe.model.ModelLogits;
import org.lethe.model.RandomWeights;
import org.lethe.model.SpareRule;
import org.lethe.model.View;
import org.lethe.model.WeightPlacement;
import org.lethe.model.WeightSource;

/**
 * A model that was loaded for its adapters beside one that was not. Where the device wants no room
 * (a CPU; CUDA's plain form) they are the same to the bit. Where it does (LETHE_LORA_FORM=augmented
 * in the environment) the weights are still the same, read and written, and what is computed agrees
 * up to rounding.
 */
class LoraFormTest {
  private static final Path GOLDEN = Goldens.path("llama-tiny");
  private static final Path ADAPTER = Goldens.path("llama-tiny/adapter");
  private static final int CONTEXT = 64;
  private static final int LAYERS = 3;
  private static final boolean AUGMENTED =
      !TestDevice.isCpu() && "augmented".equals(System.getenv("LETHE_LORA_FORM"));

  // Either form's fp32 numbers stay within 1e-5 of fp64's, which the goldens hold them to: two of
  // them are apart by no more than twice that.
  private static final double FP32 = 2e-5;
  // In bf16 some 26 tensors of a layer are rounded in both, each by half a unit at most.
  private static final double BF16 = 2 * 26 * LAYERS * 0x1p-8 / 2;
  // Adam moves a parameter by lr·m/(√v + eps), whose slope by a gradient is at most 2·lr/eps while
  // there are few steps.
  private static final double SLOPE = 2;

  private static final int STEPS = 3;
  private static final double RATE = 1e-3;
  private static final double EPS = 1e-2;

  @TempDir Path directory;
  private Backend backend;

  @BeforeEach
  void open() {
    backend = TestDevice.open(1);
  }

  @AfterEach
  void close() {
    backend.close();
  }

  private Model golden(Dtype dtype, LoraConfig... adapters) {
    return golden(dtype, BaseStorage.PLAIN, adapters);
  }

  private Model golden(Dtype dtype, BaseStorage storage, LoraConfig... adapters) {
    Ops ops = new Ops(backend, dtype);
    return ModelDirectory.load(
        ops, GOLDEN, CONTEXT, WeightPlacement.of(storage), List.of(adapters));
  }

  private static double tolerance(Dtype dtype) {
    return dtype == Dtype.F32 ? FP32 : BF16;
  }

  private static Map<String, byte[]> weights(Model model, int stagingBytes) {
    Map<String, byte[]> all = new TreeMap<>();
    try (Staging staging = new Staging(stagingBytes)) {
      for (String name : model.layout().parameters().keySet()) {
        ByteArrayOutputStream bytes = new ByteArrayOutputStream();
        model.readWeight(
            name,
            staging,
            piece -> {
              byte[] part = new byte[piece.remaining()];
              piece.get(part);
              bytes.writeBytes(part);
            });
        all.put(name, bytes.toByteArray());
      }
    }
    return all;
  }

  private static void assertSame(Map<String, byte[]> expected, Map<String, byte[]> found) {
    assertEquals(expected.keySet(), found.keySet());
    expected.forEach((name, bytes) -> assertArrayEquals(bytes, found.get(name), name));
  }

  /** The rule that a plan uses without a device, and whether this test saw the form it is for. */
  @Test
  void aDeviceThatIsNotHereIsPlannedForAsOneThatIs() {
    SpareRule planned = SpareRule.cuda(AUGMENTED ? "augmented" : null);
    for (Dtype dtype : List.of(Dtype.F32, Dtype.BF16)) {
      SpareRule asked = SpareRule.of(new Ops(backend, Dtype.F32));
      for (long[] shape : new long[][] {{64, 32, 12}, {32, 56, 4}, {32, 32, 4}, {112, 32, 33}}) {
        LinearOps.Spare expected = asked.of(dtype, shape[0], shape[1], shape[2]);
        assertEquals(expected, planned.of(dtype, shape[0], shape[1], shape[2]));
        assertEquals(AUGMENTED && shape[0] != shape[1], expected.any(shape[1]));
      }
    }
  }

  @ParameterizedTest
  @CsvSource({"F32, PLAIN", "BF16, PLAIN", "BF16, NF4_DOUBLE"})
  void weightsAreTheSameWhateverTheRoom(Dtype dtype, BaseStorage storage) {
    LoraConfig wide = LoraConfig.all(19, 8);
    ModelConfig sizes = ModelDirectory.config(GOLDEN).model().withContextLength(CONTEXT);
    try (Model packed = golden(dtype, storage);
        Model roomy = golden(dtype, storage, wide)) {
      Ops ops = packed.ops();
      AdapterRoom room = AdapterRoom.of(SpareRule.of(ops), sizes, List.of(wide));
      assertEquals(roomy.bytes(), Model.bytes(sizes, dtype, WeightPlacement.of(storage), room));
      assertEquals(AUGMENTED, roomy.bytes() > packed.bytes());
      // Whole tensors, some rows at a time, and parts of a row.
      for (int staging : new int[] {1 << 20, 1024, 40}) {
        assertSame(weights(packed, 1 << 20), weights(roomy, staging));
      }
      assertEquals(packed.fingerprint(), roomy.fingerprint());
      for (WeightSource source : sources(sizes)) {
        try (Model one = Model.load(ops, sizes, source, WeightPlacement.of(storage));
            Model other =
                Model.load(ops, sizes, source, WeightPlacement.of(storage), List.of(wide))) {
          assertSame(weights(one, 1 << 20), weights(other, 1 << 20));
        }
      }
    }
  }

  private static List<WeightSource> sources(ModelConfig sizes) {
    return List.of(new RandomWeights(sizes, 3), new DeviceWeights(sizes, 3));
  }

  @Test
  void aSavedModelIsTheSameFile() throws IOException {
    List<byte[]> files = new ArrayList<>();
    for (LoraConfig[] adapters : new LoraConfig[][] {{}, {LoraConfig.all(4, 8)}}) {
      Path target = directory.resolve("saved" + files.size());
      try (Model model = golden(Dtype.F32, adapters)) {
        // Its spare columns have held an adapter.
        if (adapters.length > 0) {
          AdapterDirectory.load(model, ADAPTER, false);
        }
        ModelLogits.of(model, List.of(new int[] {1, 5, 9}), adapters.length > 0);
        ModelDirectory.save(model, ModelDirectory.config(GOLDEN), GOLDEN, target, false);
      }
      files.add(Files.readAllBytes(target.resolve("model.safetensors")));
    }
    assertArrayEquals(files.get(0), files.get(1));
  }

  /** What a step and a few of them give. */
  private record Given(
      double loss, Map<String, float[]> gradients, List<Double> losses, float[] trained) {}

  private Given train(Method method, Dtype dtype, BaseStorage storage, boolean roomy) {
    LoraConfig lora = AdapterDirectory.config(ADAPTER);
    TrainSettings settings = settings();
    try (Model model = roomy ? golden(dtype, storage, lora) : golden(dtype, storage)) {
      AdapterDirectory.load(model, ADAPTER, true);
      double loss;
      Map<String, float[]> gradients;
      try (Step step = new Step(model, method, settings, null, 4096)) {
        record(true);
        loss = step.gradients(GoldenSteps.of(method)).loss();
        assertForm(AUGMENTED && roomy);
        gradients = GradientReader.gradients(model.trainable());
      }
      List<Double> losses = new ArrayList<>();
      BatchSource batches = GoldenSteps.repeated(GoldenSteps.of(method));
      try (Trainer trainer = new Trainer(model, method, settings, batches, null)) {
        trainer.run(report -> losses.add(report.loss()));
      }
      return new Given(loss, gradients, losses, model.lora().values());
    }
  }

  private static TrainSettings settings() {
    TrainSettings s = GoldenSteps.settings(STEPS, RATE, 4096, TrainSettings.OnNonFinite.STOP);
    return new TrainSettings(
        s.steps(),
        s.learningRate(),
        s.schedule(),
        s.warmupSteps(),
        s.beta1(),
        s.beta2(),
        EPS,
        s.weightDecay(),
        s.maxGradientNorm(),
        s.tokensPerMicroBatch(),
        s.onNonFinite());
  }

  private void record(boolean on) {
    if (!TestDevice.isCpu()) {
      backend.recordLaunches(on);
    }
  }

  /** Which products the step was made of: on a CPU nobody can say. */
  private void assertForm(boolean augmented) {
    if (TestDevice.isCpu()) {
      return;
    }
    List<String> launches = backend.launches();
    record(false);
    for (String kernel : List.of("augment_columns", "augment_rows")) {
      boolean found = launches.stream().anyMatch(l -> l.contains("\"" + kernel + "\""));
      assertEquals(augmented, found, kernel);
    }
  }

  @ParameterizedTest
  @CsvSource({
    "ME+GD, F32, PLAIN",
    "NPO+KL, F32, PLAIN",
    "DPO+GD, F32, PLAIN",
    "NPO+KL, BF16, PLAIN",
    "DPO+GD, F32, NF4"
  })
  void aTrainingAgreesWithThePlainForm(String name, Dtype dtype, BaseStorage storage) {
    Method method = Methods.create(MethodConfig.of(name));
    Given plain = train(method, dtype, storage, false);
    Given other = train(method, dtype, storage, true);
    if (!AUGMENTED) {
      assertEquals(plain.loss(), other.loss());
      plain.gradients().forEach((n, g) -> assertArrayEquals(g, other.gradients().get(n), n));
      assertEquals(plain.losses(), other.losses());
      assertArrayEquals(plain.trained(), other.trained());
      return;
    }
    double tolerance = tolerance(dtype);
    assertEquals(plain.loss(), other.loss(), tolerance * Math.abs(plain.loss()));
    double norm = 0;
    double difference = 0;
    for (Map.Entry<String, float[]> g : plain.gradients().entrySet()) {
      norm += Math.pow(Goldens.norm(g.getValue()), 2);
      difference += Math.pow(Goldens.distance(g.getValue(), other.gradients().get(g.getKey())), 2);
    }
    assertTrue(
        Math.sqrt(difference / norm) <= tolerance, name + " " + Math.sqrt(difference / norm));
    // The same numbers to the last bit would be the same form.
    assertTrue(difference > 0, name);
    for (int i = 0; i < STEPS; i++) {
      double size = Math.max(1, Math.abs(plain.losses().get(i)));
      assertEquals(plain.losses().get(i), other.losses().get(i), tolerance * size, name + i);
    }
    // Clipped gradients have a length of 1.
    double moved = STEPS * SLOPE * RATE / EPS * tolerance;
    double apart = Goldens.distance(plain.trained(), other.trained());
    assertTrue(apart <= moved, name + ": adapters are " + apart + " apart, may be " + moved);
  }

  /** The spare columns hold what the last call needed; the next one must not see it. */
  @Test
  void viewsShareTheRoom() {
    LoraConfig lora = AdapterDirectory.config(ADAPTER);
    List<int[]> sequences = List.of(new int[] {1, 5, 9, 33, 70}, new int[] {2, 100, 41});
    try (Model plain = golden(Dtype.F32);
        Model roomy = golden(Dtype.F32, lora, lora)) {
      List<float[]> expected = new ArrayList<>();
      for (Model model : List.of(plain, roomy)) {
        View one = View.of(AdapterDirectory.loadFrozen(model, "one", ADAPTER));
        View both = one.plus(AdapterDirectory.loadFrozen(model, "other", ADAPTER), -0.5);
        List<float[]> found = new ArrayList<>();
        found.add(ModelLogits.of(model, sequences, false));
        for (View view : List.of(both, one)) {
          model.startFrom(view);
          found.add(ModelLogits.of(model, sequences, true));
        }
        model.startFrom(View.BASE);
        found.add(ModelLogits.of(model, sequences, true));
        assertArrayEquals(found.get(0), found.get(3));
        if (expected.isEmpty()) {
          expected.addAll(found);
        }
        for (int i = 0; i < found.size(); i++) {
          double error = ModelLogits.error(found.get(i), expected.get(i));
          assertTrue(error <= (AUGMENTED ? FP32 : 0), i + " differs by " + error);
        }
      }
      assertFalse(Arrays.equals(expected.get(0), expected.get(1)));
      assertFalse(Arrays.equals(expected.get(1), expected.get(2)));
    }
  }

  @Test
  void whatDoesNotFitIsRefusedWhereThereIsRoomAtAll() {
    LoraConfig small = LoraConfig.all(4, 8);
    // 3 times 6 on q, k and v; 16 columns are there for 3 times 4.
    LoraConfig large = LoraConfig.all(6, 8);
    try (Model model = golden(Dtype.F32, small)) {
      if (AUGMENTED) {
        UserException e = assertThrows(UserException.class, () -> model.addLora(large, 1));
        assertTrue(e.getMessage().contains("have 18 ranks in all, but"), e.getMessage());
        assertTrue(e.getMessage().contains("room for 16"), e.getMessage());
        e = assertThrows(UserException.class, model::trainWeights);
        assertTrue(e.getMessage().contains("loaded with room for adapters"), e.getMessage());
      }
      model.addLora(AUGMENTED ? small : large, 1);
      // A second one would need 24.
      if (AUGMENTED) {
        UserException e =
            assertThrows(
                UserException.class, () -> AdapterDirectory.loadFrozen(model, "x", ADAPTER));
        assertTrue(e.getMessage().contains("have 24 ranks in all"), e.getMessage());
      } else {
        AdapterDirectory.loadFrozen(model, "x", ADAPTER);
      }
    }
  }
}
