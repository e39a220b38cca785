package org.lethe.checkpoint;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertNotEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.io.ByteArrayOutputStream;
import java.io.IOException;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;
import org.junit.jupiter.params.provider.EnumSource;
import org.junit.jupiter.params.provider.ValueSource;
import org.lethe.TestDevice;
import org.lethe.UserException;
import org.lethe.kernels.Backend;
import org.lethe.kernels.Dtype;
import org.lethe.kernels.Ops;
import org.lethe.kernels.Staging;
import org.lethe.model.BaseStorage;
import org.lethe.model.DeviceWeights;
import org.lethe.model.Goldens;
import org.lethe.model.LoraConfig;
import org.lethe.model.Model;
import org.lethe.model.ModelConfig;
import org.lethe.model.ModelLogits;
import org.lethe.model.WeightPlacement;
import org.lethe.model.WeightSource;

/** Models whose linears stay in 4-bit codes: how they are loaded, and what is refused. */
class QuantizedBaseTest {
  private static final int CONTEXT = 64;
  private static final List<int[]> SEQUENCES =
      List.of(new int[] {1, 5, 9, 30, 2}, new int[] {4, 4, 8});

  @TempDir Path directory;
  private Backend backend;

  @BeforeEach
  void open() {
    backend = TestDevice.open(2);
  }

  @AfterEach
  void close() {
    backend.close();
  }

  private Model load(Path path, Dtype dtype, BaseStorage storage) {
    return ModelDirectory.load(new Ops(backend, dtype), path, CONTEXT, WeightPlacement.of(storage));
  }

  /** Another directory with the same model, its linears quantised or, with null, dequantised. */
  private Path export(Path from, String name, Quantization quantize) {
    Path to = directory.resolve(name);
    ModelExport.write(
        new ModelExport.Request(
            from,
            Optional.empty(),
            to,
            false,
            // What its codes are dequantised to: with a shorter type they would be rounded once
            // more.
            Optional.of(StoredDtype.F32),
            Long.MAX_VALUE,
            Optional.ofNullable(quantize),
            List.of()));
    return to;
  }

  private static byte[] weights(Model model, String name) {
    ByteArrayOutputStream all = new ByteArrayOutputStream();
    // Smaller than a weight, so that it comes in pieces.
    try (Staging staging = new Staging(1024)) {
      model.readWeight(
          name,
          staging,
          piece -> {
            byte[] bytes = new byte[piece.remaining()];
            piece.get(bytes);
            all.writeBytes(bytes);
          });
    }
    return all.toByteArray();
  }

  private static void assertSameWeights(Model expected, Model found) {
    for (String name : expected.layout().parameters().keySet()) {
      assertArrayEquals(weights(expected, name), weights(found, name), name);
    }
    assertArrayEquals(
        ModelLogits.of(expected, SEQUENCES, false), ModelLogits.of(found, SEQUENCES, false));
  }

  @ParameterizedTest
  @EnumSource(
      value = BaseStorage.class,
      names = {"NF4", "NF4_DOUBLE"})
  void aPlainModelIsQuantisedAsAnExportQuantisesIt(BaseStorage storage) {
    Path plain = Goldens.path("llama-tiny");
    Path small = export(plain, "small", Quantization.valueOf(storage.name()));
    try (Model quantised = load(plain, Dtype.F32, storage);
        Model stored = load(small, Dtype.F32, storage);
        Model dequantised = load(small, Dtype.F32, BaseStorage.PLAIN);
        Model before = load(plain, Dtype.F32, BaseStorage.PLAIN)) {
      assertSameWeights(dequantised, quantised);
      assertSameWeights(dequantised, stored);
      assertEquals(quantised.fingerprint(), stored.fingerprint());
      assertNotEquals(dequantised.fingerprint(), stored.fingerprint());
      assertNotEquals(before.fingerprint(), quantised.fingerprint());
    }
  }

  @ParameterizedTest
  @ValueSource(strings = {"phi", "phi3", "qwen2", "gemma2", "starcoder2"})
  void everyFamilysLinearsStayInCodes(String family) {
    Path plain = Goldens.path("families").resolve(family);
    Path small = export(plain, "small", Quantization.NF4_DOUBLE);
    try (Model quantised = load(plain, Dtype.F32, BaseStorage.NF4_DOUBLE);
        Model dequantised = load(small, Dtype.F32, BaseStorage.PLAIN)) {
      assertSameWeights(dequantised, quantised);
    }
  }

  @ParameterizedTest
  @CsvSource({
    "llama-int8, NF4",
    "llama-int8, NF4_DOUBLE",
    "llama-nf4, NF4_DOUBLE",
    "llama-nf4-double, NF4"
  })
  void otherLayoutsAreQuantisedAnew(String golden, BaseStorage storage) {
    Path stored = Goldens.path("quant").resolve(golden);
    Path plain = export(stored, "plain", null);
    Path again = export(plain, "again", Quantization.valueOf(storage.name()));
    try (Model quantised = load(stored, Dtype.F32, storage);
        Model expected = load(again, Dtype.F32, storage)) {
      assertSameWeights(expected, quantised);
    }
  }

  @ParameterizedTest
  @CsvSource({"F32, NF4", "F32, NF4_DOUBLE", "BF16, NF4", "BF16, NF4_DOUBLE", "BF16, PLAIN"})
  void itTakesTheBytesThatAreSaid(Dtype dtype, BaseStorage storage) {
    long before = backend.allocatedBytes();
    try (Model model = load(Goldens.path("llama-tiny"), dtype, storage)) {
      long bytes = Model.bytes(model.config(), dtype, WeightPlacement.of(storage));
      assertEquals(bytes, backend.allocatedBytes() - before);
      ModelLogits.of(model, SEQUENCES, false);
      assertEquals(bytes, backend.allocatedBytes() - before);
    }
    assertEquals(before, backend.allocatedBytes());
  }

  /** The table of docs/quantised.md, in units of 10 MB, from what each part of a model takes. */
  @ParameterizedTest
  @CsvSource({
    "32000, 32, 11008, 1348, 435, 405", // Llama 2 7B
    "128256, 8, 14336, 1606, 626, 594" // Llama 3 8B
  })
  void modelsOfBillionsOfParametersTakeWhatTheGuideSays(
      int vocabulary, int kvHeads, int f, long plain, long nf4, long nf4Double) {
    int d = 4096;
    ModelConfig c =
        ModelConfig.llama(
            new ModelConfig.Sizes(vocabulary, d, 32, 32, kvHeads, 128, f, 512),
            1e-5f,
            10000,
            false);
    long linears = 32L * d * (2L * d + 2L * 128 * kvHeads + 3L * f);
    // Embedding, head, norms and the rotary tables.
    long rest = 2 * (2L * vocabulary + 65) * d + 2 * 4 * 512L * 64;
    long scratch = 2L * 2 * f * d;
    Map<BaseStorage, Double> bits =
        Map.of(
            BaseStorage.PLAIN, 16.0,
            BaseStorage.NF4, 4 + 32 / 64.0,
            BaseStorage.NF4_DOUBLE, 4 + (8 + 32 / 256.0) / 64);
    Map<BaseStorage, Long> said =
        Map.of(BaseStorage.PLAIN, plain, BaseStorage.NF4, nf4, BaseStorage.NF4_DOUBLE, nf4Double);
    for (BaseStorage storage : BaseStorage.values()) {
      long bytes = Model.bytes(c, Dtype.BF16, WeightPlacement.of(storage));
      double expected =
          linears * bits.get(storage) / 8 + rest + (storage.quantized() ? scratch : 0);
      // Each of 7 linears and their scales begin on 64 bytes; the head's mean row is there, too.
      assertEquals(expected, (double) bytes, 32 * 7 * 3 * 64 + 4 * d + 2048, storage.name());
      assertEquals(said.get(storage), Math.round(bytes / 1e7), storage.name());
    }
  }

  @Test
  void weightsThatAreMadeOnTheDeviceAreQuantisedThere() {
    ModelConfig config =
        ModelConfig.llama(new ModelConfig.Sizes(64, 64, 2, 4, 2, 16, 96, 32), 1e-5f, 10000, false);
    WeightSource source = new DeviceWeights(config, 5);
    Ops ops = new Ops(backend, Dtype.F32);
    String name = "model.layers.1.mlp.down_proj.weight";
    try (Model plain = Model.load(ops, config, source);
        Model quantised = Model.load(ops, config, source, WeightPlacement.of(BaseStorage.NF4))) {
      float[] before = floats(weights(plain, name));
      float[] after = floats(weights(quantised, name));
      for (int block = 0; block < before.length; block += 64) {
        float largest = 0;
        double off = 0;
        for (int i = block; i < block + 64; i++) {
          largest = Math.max(largest, Math.abs(before[i]));
          off = Math.max(off, Math.abs((double) before[i] - after[i]));
        }
        // Half of the widest gap between two codes, -1 and -0.696.
        assertTrue(off > 0 && off <= 0.1520 * largest, off + " of " + largest);
      }
    }
  }

  private static float[] floats(byte[] bytes) {
    float[] values = new float[bytes.length / Float.BYTES];
    ByteBuffer.wrap(bytes).order(ByteOrder.LITTLE_ENDIAN).asFloatBuffer().get(values);
    return values;
  }

  @Test
  void weightsInCodesDoNotTrain() {
    try (Model model = load(Goldens.path("llama-tiny"), Dtype.F32, BaseStorage.NF4)) {
      String refusal = assertThrows(UserException.class, model::trainWeights).getMessage();
      assertTrue(refusal.contains("quantize_base=none"), refusal);
      assertTrue(refusal.contains("train.full_parameters=false"), refusal);
      model.addLora(LoraConfig.all(4, 8), 1);
      assertTrue(model.trainable() != null);
    }
  }

  @ParameterizedTest
  @CsvSource({"NF4, NaN", "NF4_DOUBLE, Infinity"})
  void whatIsNotFiniteIsNamed(BaseStorage storage, float value) throws IOException {
    Path broken = ModelWeightsFiles.copy(Goldens.path("llama-tiny"), directory.resolve("broken"));
    ModelWeightsFiles.edit(
        broken,
        "model.layers.2.mlp.up_proj.weight",
        (spec, bytes) -> {
          bytes.putFloat(4 * 700, value);
          return ModelWeightsFiles.tensor(spec, bytes);
        });
    long before = backend.allocatedBytes();
    String refusal =
        assertThrows(UserException.class, () -> load(broken, Dtype.F32, storage).close())
            .getMessage();
    List<String> parts = new ArrayList<>(List.of("up_proj.weight'", "quantize_base=none"));
    parts.add(broken.toString());
    parts.forEach(part -> assertTrue(refusal.contains(part), refusal));
    assertEquals(before, backend.allocatedBytes());
  }
}
