package org.lethe.checkpoint;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import java.io.IOException;
import java.nio.ByteBuffer;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Arrays;
import java.util.HashSet;
import java.util.List;
import java.util.Optional;
import java.util.Set;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;
import org.junit.jupiter.params.provider.ValueSource;
import org.lethe.TestDevice;
import org.lethe.UserException;
import org.lethe.kernels.Backend;
import org.lethe.kernels.Dtype;
import org.lethe.kernels.HeadOps;
import org.lethe.kernels.Ops;
import org.lethe.method.RowKind;
import org.lethe.method.RowStatistics;
import org.lethe.model.Decoder;
import org.lethe.model.Goldens;
import org.lethe.model.Head;
import org.lethe.model.HeadRows;
import org.lethe.model.Model;
import org.lethe.model.PackedBatch;

/** Model directories whose linears stand quantised: read, written, dequantised, refused. */
class QuantizedModelTest {
  // The project's bound for fp32 logits against fp64.
  private static final double LOGIT_TOLERANCE = 1e-5;
  private static final int LINEARS = 21;

  @TempDir Path directory;

  private static float[] logits(Path model, List<int[]> sequences) {
    try (Backend backend = TestDevice.open(2);
        Model loaded = ModelDirectory.load(new Ops(backend, Dtype.F32), model, 64)) {
      PackedBatch batch = PackedBatch.of(sequences, 0);
      int vocabulary = loaded.config().vocabularySize();
      HeadRows.Builder rows = new HeadRows.Builder();
      for (int t = 0; t < batch.tokens(); t++) {
        int source = rows.source(t);
        for (int v = 0; v < vocabulary; v++) {
          rows.row(source, v, RowKind.STATISTICS.code(), -1);
        }
      }
      try (Decoder decoder = new Decoder(loaded, batch.tokens(), false);
          Head head = new Head(loaded, batch.tokens() * vocabulary)) {
        HeadRows built = rows.build(0);
        long x = decoder.forward(batch, built.sourceTokens());
        float[] statistics = head.forward(x, built, false);
        float[] logits = new float[batch.tokens() * vocabulary];
        for (int i = 0; i < logits.length; i++) {
          logits[i] = statistics[i * HeadOps.STATISTICS + RowStatistics.LABEL];
        }
        return logits;
      }
    }
  }

  @ParameterizedTest
  @ValueSource(strings = {"llama-nf4", "llama-nf4-double", "llama-int8"})
  void logitsAreThoseOfTransformersWithTheDequantisedWeights(String name) {
    Path model = Goldens.path("quant").resolve(name);
    try (SafetensorsFile golden = SafetensorsFile.open(model.resolve("forward.safetensors"))) {
      List<int[]> sequences =
          Goldens.split(Goldens.ints(golden, "ids"), Goldens.ints(golden, "lengths"));
      float[] expected = Goldens.floats(golden, "logits");
      float[] found = logits(model, sequences);
      assertEquals(expected.length, found.length);
      double largest = 0;
      double off = 0;
      for (int i = 0; i < expected.length; i++) {
        largest = Math.max(largest, Math.abs(expected[i]));
        off = Math.max(off, Math.abs((double) expected[i] - found[i]));
      }
      assertTrue(off <= LOGIT_TOLERANCE * largest, off + " of " + largest);
      assertEquals(List.of(), ModelCheck.problems(model, ModelDirectory.config(model)));
    }
  }

  private static ModelExport.Request request(
      Path model, Path output, Optional<StoredDtype> dtype, Quantization quantize, long shard) {
    return new ModelExport.Request(
        model,
        Optional.empty(),
        output,
        false,
        dtype,
        shard,
        Optional.ofNullable(quantize),
        List.of());
  }

  private static byte[] bytes(TensorSource source, String name) {
    ByteBuffer bytes = ByteBuffer.allocate(Math.toIntExact(source.info(name).bytes()));
    source.readInto(name, 0, bytes);
    return bytes.array();
  }

  private static void assertSameTensors(Path expected, Path found) {
    try (ShardedSafetensors a = ShardedSafetensors.open(expected);
        ShardedSafetensors b = ShardedSafetensors.open(found)) {
      assertEquals(new HashSet<>(a.names()), new HashSet<>(b.names()));
      for (String name : a.names()) {
        assertEquals(a.info(name).dtype(), b.info(name).dtype(), name);
        assertEquals(a.info(name).shape(), b.info(name).shape(), name);
        assertArrayEquals(bytes(a, name), bytes(b, name), name);
      }
    }
  }

  @ParameterizedTest
  @CsvSource({"NF4, F32, llama-nf4", "NF4_DOUBLE, BF16, llama-nf4-double", "INT8, F16, llama-int8"})
  void aQuantisedModelIsWrittenAsTheOracleWritesIt(
      Quantization scheme, StoredDtype dtype, String golden) throws IOException {
    Path written = directory.resolve("written");
    ModelExport.Result result =
        ModelExport.write(
            request(
                Goldens.path("llama-tiny"), written, Optional.of(dtype), scheme, Long.MAX_VALUE));
    assertEquals(30, result.tensors());
    assertEquals(32032, result.parameters());
    Path model = Goldens.path("quant").resolve(golden);
    assertSameTensors(model, written);
    JsonNode expected = config(model).get("quantization_config");
    JsonNode found = config(written).get("quantization_config");
    for (String key : (Iterable<String>) expected::fieldNames) {
      if (!key.equals("llm_int8_skip_modules")) {
        assertEquals(expected.get(key), found.get(key), key);
      }
    }
    assertEquals(expected.size(), found.size());
    assertEquals("[\"lm_head\"]", found.get("llm_int8_skip_modules").toString());
    assertEquals(config(model).get("dtype"), config(written).get("dtype"));
  }

  private static JsonNode config(Path model) throws IOException {
    return new ObjectMapper().readTree(Files.readString(model.resolve("config.json")));
  }

  @Test
  void shardsHoldAWeightWithAllThatBelongsToIt() {
    Path written = directory.resolve("written");
    ModelExport.Result result =
        ModelExport.write(
            request(
                Goldens.path("llama-tiny"),
                written,
                Optional.empty(),
                Quantization.NF4_DOUBLE,
                9_000));
    assertTrue(result.files() > 3, result.toString());
    try (ShardedSafetensors stored = ShardedSafetensors.open(written);
        ModelWeights weights = ModelWeights.open(written)) {
      assertEquals(LINEARS, weights.quantizedNames().size());
      assertEquals(30, weights.names().size());
      for (String name : weights.quantizedNames()) {
        for (String companion : stored.names()) {
          if (companion.startsWith(name + ".")) {
            assertEquals(stored.file(name), stored.file(companion), companion);
          }
        }
      }
    }
  }

  @ParameterizedTest
  @CsvSource({
    "NF4, llama-nf4",
    "FP4, llama-nf4",
    "FP4_DOUBLE, llama-nf4",
    "NF4_DOUBLE, llama-nf4-double",
    "INT8, llama-int8"
  })
  void whatIsDequantisedAndQuantisedAgainLoadsTheSame(Quantization scheme, String golden) {
    Path first = directory.resolve("first");
    Path plain = directory.resolve("plain");
    Path second = directory.resolve("second");
    Path model = Goldens.path("quant").resolve(golden);
    ModelExport.write(request(model, first, Optional.empty(), scheme, Long.MAX_VALUE));
    ModelExport.write(request(first, plain, Optional.empty(), null, Long.MAX_VALUE));
    try (ModelWeights quantised = ModelWeights.open(first);
        ModelWeights dequantised = ModelWeights.open(plain)) {
      assertEquals(LINEARS, quantised.quantizedNames().size());
      assertEquals(Set.of(), dequantised.quantizedNames());
      assertEquals(quantised.names(), dequantised.names());
      for (String name : quantised.names()) {
        assertEquals(quantised.info(name).dtype(), dequantised.info(name).dtype(), name);
        assertArrayEquals(bytes(quantised, name), bytes(dequantised, name), name);
      }
    }
    assertEquals(101, ModelDirectory.config(plain).model().vocabularySize());
    // fp32 scales survive: a block's largest weight has the code ±1.
    if (scheme == Quantization.NF4 || scheme == Quantization.FP4) {
      ModelExport.write(request(plain, second, Optional.empty(), scheme, Long.MAX_VALUE));
      assertSameTensors(first, second);
    }
  }

  @ParameterizedTest
  @ValueSource(strings = {"llama-nf4", "llama-nf4-double", "llama-int8"})
  void anyPieceReadsAsTheWholeDoes(String golden) {
    String name = "model.layers.1.mlp.down_proj.weight";
    try (ModelWeights weights = ModelWeights.open(Goldens.path("quant").resolve(golden))) {
      byte[] whole = bytes(weights, name);
      int size = weights.info(name).dtype().bits() / 8;
      for (int count : new int[] {1, 3, 63, 64, 65, 500}) {
        for (int first = 0; first * size < whole.length; first += 97) {
          int bytes = Math.min(count * size, whole.length - first * size);
          ByteBuffer piece = ByteBuffer.allocate(count * size);
          assertEquals(bytes, weights.readInto(name, (long) first * size, piece));
          assertEquals(ByteBuffer.wrap(whole, first * size, bytes), piece.flip());
        }
      }
      assertEquals(0, weights.readInto(name, whole.length, ByteBuffer.allocate(8)));
      assertEquals(ByteBuffer.wrap(whole), weights.slices(name).get(0));
    }
  }

  @ParameterizedTest
  @ValueSource(strings = {"phi", "phi3", "qwen2", "gemma2"})
  void everyFamilysLinearsAreQuantisedAndNothingElse(String family) {
    Path model = Goldens.path("families").resolve(family);
    Path written = directory.resolve("written");
    ModelExport.write(
        request(model, written, Optional.empty(), Quantization.NF4_DOUBLE, Long.MAX_VALUE));
    ModelConfigFile config = ModelDirectory.config(written);
    assertEquals(List.of(), ModelCheck.problems(written, config));
    Set<String> linears = new HashSet<>();
    ModelDirectory.linears(config.model()).keySet().forEach(m -> linears.add(m + ".weight"));
    try (ModelWeights weights = ModelWeights.open(written);
        ShardedSafetensors before = ShardedSafetensors.open(model)) {
      assertEquals(linears, weights.quantizedNames());
      assertEquals(before.names(), weights.names());
      for (String name : before.names()) {
        assertEquals(before.info(name).dtype(), weights.info(name).dtype(), name);
        boolean same = Arrays.equals(bytes(before, name), bytes(weights, name));
        assertEquals(!linears.contains(name), same, name);
      }
    }
  }

  @Test
  void skippedModulesStayPlainAndConfigJsonNamesThem() throws IOException {
    Path written = directory.resolve("written");
    ModelExport.write(
        new ModelExport.Request(
            Goldens.path("llama-tiny"),
            Optional.empty(),
            written,
            false,
            Optional.empty(),
            Long.MAX_VALUE,
            Optional.of(Quantization.INT8),
            List.of("model.layers.0", "down_proj", "model.layers.2.mlp.up_proj")));
    try (ModelWeights weights = ModelWeights.open(written)) {
      // Seven linears of layer 0, two down projections of the others, one by its full name.
      assertEquals(LINEARS - 10, weights.quantizedNames().size());
      assertTrue(weights.quantizedNames().contains("model.layers.1.mlp.up_proj.weight"));
    }
    JsonNode skipped = config(written).at("/quantization_config/llm_int8_skip_modules");
    assertEquals(11, skipped.size());
    assertEquals("lm_head", skipped.get(0).textValue());
    assertTrue(skipped.toString().contains("\"model.layers.1.mlp.down_proj\""), skipped.toString());
  }

  @Test
  void anAdapterMergesIntoAQuantisedModel() {
    Path merged = directory.resolve("merged");
    Path base = Goldens.path("quant/llama-nf4");
    Path adapter = Goldens.path("llama-tiny/adapter");
    ModelExport.Result result =
        ModelExport.write(
            new ModelExport.Request(
                base,
                Optional.of(adapter),
                merged,
                false,
                Optional.empty(),
                Long.MAX_VALUE,
                Optional.of(Quantization.NF4_DOUBLE),
                List.of()));
    // The weights are read twice for double quantisation, but merged once.
    assertEquals(1, result.survival().orElseThrow().fraction(), 1e-6);
    Path plain = directory.resolve("plain");
    ModelExport.write(
        new ModelExport.Request(
            base, Optional.of(adapter), plain, false, Optional.empty(), Long.MAX_VALUE));
    Path again = directory.resolve("again");
    ModelExport.write(
        request(plain, again, Optional.empty(), Quantization.NF4_DOUBLE, Long.MAX_VALUE));
    assertSameTensors(again, merged);
    assertFalse(ModelWeightsFiles.holds(plain, "quant_state"));
  }

  @ParameterizedTest
  @CsvSource({"NF4, NaN, holds NaN", "INT8, 70000, more than fp16 can hold"})
  void whatCannotBeQuantisedIsRefused(Quantization scheme, float value, String message)
      throws IOException {
    Path broken = ModelWeightsFiles.copy(Goldens.path("llama-tiny"), directory.resolve("broken"));
    ModelWeightsFiles.edit(
        broken,
        "model.layers.2.mlp.up_proj.weight",
        (spec, bytes) -> {
          bytes.putFloat(4 * 700, value);
          return ModelWeightsFiles.tensor(spec, bytes);
        });
    Path output = directory.resolve("output");
    String refusal =
        assertThrows(
                UserException.class,
                () ->
                    ModelExport.write(
                        request(broken, output, Optional.empty(), scheme, Long.MAX_VALUE)))
            .getMessage();
    assertTrue(refusal.contains("up_proj.weight'") && refusal.contains(message), refusal);
    assertFalse(Files.exists(output));
  }
}
