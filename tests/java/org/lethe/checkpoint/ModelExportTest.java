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
import java.nio.ByteOrder;
import java.nio.FloatBuffer;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.stream.Stream;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.EnumSource;
import org.junit.jupiter.params.provider.ValueSource;
import org.lethe.TestDevice;
import org.lethe.UserException;
import org.lethe.data.CounterRng;
import org.lethe.data.TokenSequence;
import org.lethe.kernels.Backend;
import org.lethe.kernels.Dtype;
import org.lethe.kernels.Ops;
import org.lethe.method.Positions;
import org.lethe.model.Goldens;
import org.lethe.model.Lora;
import org.lethe.model.LoraConfig;
import org.lethe.model.Model;
import org.lethe.train.Scorer;

/** Models written anew: merged, converted, in shards. */
class ModelExportTest {
  private static final Path BASE = Goldens.path("llama-tiny");
  private static final Path ADAPTER = BASE.resolve("adapter");

  /** Another order of fp32 sums over a few hundred terms of eps 6e-8. */
  private static final double NLL_TOLERANCE = 1e-5;

  @TempDir Path directory;

  private static ModelExport.Request request(Path model, Path output) {
    return new ModelExport.Request(
        model, Optional.of(ADAPTER), output, false, Optional.empty(), Long.MAX_VALUE);
  }

  private static ModelExport.Request plain(
      Path model, Path output, Optional<StoredDtype> dtype, long shard) {
    return new ModelExport.Request(model, Optional.empty(), output, false, dtype, shard);
  }

  private static List<TokenSequence> sequences(Path model) {
    try (SafetensorsFile file = SafetensorsFile.open(model.resolve("forward.safetensors"))) {
      return Goldens.split(Goldens.ints(file, "ids"), Goldens.ints(file, "lengths")).stream()
          .map(ids -> new TokenSequence(ids, 1))
          .toList();
    }
  }

  private static double[] nll(Path model, Optional<Path> adapter, List<TokenSequence> sequences) {
    try (Backend backend = TestDevice.open(1);
        Model loaded = ModelDirectory.load(new Ops(backend, Dtype.F32), model, 64)) {
      adapter.ifPresent(a -> AdapterDirectory.load(loaded, a, false));
      try (Scorer scorer = Scorer.forSequences(loaded, sequences, adapter.isPresent())) {
        return scorer.score(sequences, Positions.ALL).stream()
            .mapToDouble(Scorer.Score::nll)
            .toArray();
      }
    }
  }

  private static void assertClose(double[] expected, double[] found) {
    for (int i = 0; i < expected.length; i++) {
      assertEquals(expected[i], found[i], NLL_TOLERANCE * expected[i], "sequence " + i);
    }
  }

  @Test
  void aMergedModelScoresAsBaseWithAdapterDoes() {
    Path merged = directory.resolve("merged");
    ModelExport.Result result = ModelExport.write(request(BASE, merged));
    List<TokenSequence> sequences = sequences(BASE);
    double[] plain = nll(BASE, Optional.empty(), sequences);
    double[] adapted = nll(BASE, Optional.of(ADAPTER), sequences);
    double[] found = nll(merged, Optional.empty(), sequences);
    assertTrue(Math.abs(plain[0] - adapted[0]) > 0.1 * plain[0]);
    assertClose(adapted, found);
    // PEFT's own numbers for the same adapter on the same sequences.
    try (SafetensorsFile file = SafetensorsFile.open(BASE.resolve("lora_forward.safetensors"))) {
      float[] golden = Goldens.floats(file, "nll");
      double sum = 0;
      for (float value : golden) {
        sum += value;
      }
      assertEquals(sum, found[0] + found[1] + found[2], NLL_TOLERANCE * sum);
    }
    assertEquals(30, result.tensors());
    assertEquals(32032, result.parameters());
    // fp32 keeps 24 bits of sums that are a few times larger than the delta.
    Survival survival = result.survival().orElseThrow();
    assertEquals(1, survival.fraction(), 1e-6);
    assertEquals(1, survival.along(), 1e-6);
    assertEquals(0, survival.unchanged(), 1e-3);
  }

  @Test
  void aTiedModelStaysTied() {
    Path base = Goldens.path("llama-tiny-tied");
    Path adapter = directory.resolve("adapter");
    try (Backend backend = TestDevice.open(1);
        Model model = ModelDirectory.load(new Ops(backend, Dtype.F32), base, 64)) {
      LoraConfig config = new LoraConfig(3, 6, List.of("q_proj", "down_proj"));
      float[] values = new float[Math.toIntExact(Lora.layout(model.config(), config).elements())];
      for (int i = 0; i < values.length; i++) {
        values[i] = (float) (CounterRng.uniform(5, i) - 0.5);
      }
      model.addLora(config, values, false);
      AdapterDirectory.save(model.lora(), model, "base", adapter, false);
    }
    Path merged = directory.resolve("merged");
    ModelExport.write(
        new ModelExport.Request(
            base, Optional.of(adapter), merged, false, Optional.empty(), Long.MAX_VALUE));
    List<TokenSequence> sequences = sequences(base);
    assertClose(
        nll(base, Optional.of(adapter), sequences), nll(merged, Optional.empty(), sequences));
    assertTrue(ModelDirectory.config(merged).model().tiedHead());
    try (SafetensorsFile before = SafetensorsFile.open(base.resolve("model.safetensors"));
        SafetensorsFile after = SafetensorsFile.open(merged.resolve("model.safetensors"))) {
      assertEquals(before.names(), after.names());
      int changed = 0;
      for (String name : before.names()) {
        boolean adapted = name.contains("q_proj") || name.contains("down_proj");
        boolean same = Arrays.equals(Goldens.floats(before, name), Goldens.floats(after, name));
        assertEquals(!adapted, same, name);
        changed += same ? 0 : 1;
      }
      assertEquals(4, changed);
    }
  }

  /**
   * Every merged weight is the stored number nearest to W + scale · BA, computed plainly in fp64.
   */
  @ParameterizedTest
  @EnumSource(names = {"F32", "BF16", "F16"})
  void weightsAreRoundedOnce(StoredDtype dtype) {
    Path merged = directory.resolve("merged");
    ModelExport.write(
        new ModelExport.Request(
            BASE, Optional.of(ADAPTER), merged, false, Optional.of(dtype), Long.MAX_VALUE));
    String module = "model.layers.1.mlp.down_proj";
    try (SafetensorsFile base = SafetensorsFile.open(BASE.resolve("model.safetensors"));
        SafetensorsFile lora = SafetensorsFile.open(ADAPTER.resolve("adapter_model.safetensors"));
        SafetensorsFile file = SafetensorsFile.open(merged.resolve("model.safetensors"))) {
      assertEquals(dtype, file.info(module + ".weight").dtype());
      float[] w = Goldens.floats(base, module + ".weight");
      float[] a = Goldens.floats(lora, PeftAdapter.tensorA(module));
      float[] b = Goldens.floats(lora, PeftAdapter.tensorB(module));
      FloatBuffer stored = FloatBuffer.allocate(w.length);
      FloatStream.read(file, module + ".weight", 0, stored.duplicate());
      int in = 56;
      for (int i = 0; i < w.length; i++) {
        double delta = 0;
        for (int k = 0; k < 4; k++) {
          delta += (double) b[i / in * 4 + k] * a[k * in + i % in];
        }
        assertNearest(w[i] + 2 * delta, stored.get(i), dtype);
      }
    }
    assertEquals(Optional.of(dtype), ModelDirectory.config(merged).dtype());
  }

  private static void assertNearest(double sum, float stored, StoredDtype dtype) {
    double error = Math.abs(stored - sum);
    // The sum itself is only known to fp64's rounding.
    double slack = 8 * Math.ulp(sum);
    for (float step : new float[] {Float.POSITIVE_INFINITY, Float.NEGATIVE_INFINITY}) {
      float neighbour = stored;
      while (FloatStream.round(dtype, neighbour) == stored) {
        neighbour =
            dtype == StoredDtype.F32
                ? Math.nextAfter(neighbour, step)
                : Math.nextAfter(neighbour + Math.copySign(Math.abs(stored) * 1e-4f, step), step);
      }
      double other = Math.abs(FloatStream.round(dtype, neighbour) - sum);
      assertTrue(error <= other + slack, stored + " for " + sum + " as " + dtype);
    }
  }

  @Test
  void aSumBeyondATieIsNotRoundedTwice() {
    // bf16 keeps 8 bits: 1 + 2^-8 lies midway between 1 and 1 + 2^-7. A little above it must go
    // up, though fp32 on the way would drop that little and then round to even, down.
    double above = 1 + 0x1p-8 + 0x1p-40;
    assertEquals(1f, FloatStream.round(StoredDtype.BF16, (float) above));
    assertEquals(1 + 0x1p-7f, FloatStream.round(StoredDtype.BF16, FloatStream.toOdd(above)));
    assertEquals(-1 - 0x1p-7f, FloatStream.round(StoredDtype.BF16, FloatStream.toOdd(-above)));
    double below = 1 + 3 * 0x1p-8 - 0x1p-40;
    assertEquals(1 + 0x1p-7f, FloatStream.round(StoredDtype.BF16, FloatStream.toOdd(below)));
    assertEquals(0.5f, FloatStream.toOdd(0.5));
    assertEquals(0f, FloatStream.toOdd(0));
    assertEquals(Float.POSITIVE_INFINITY, FloatStream.toOdd(1e39));
  }

  @Test
  void aDeltaTooSmallForTheTypeIsReportedAsLost() throws IOException {
    // Stored in bf16 to begin with: weights of about 0.2 are 2^-10 apart, the delta is about 2e-7.
    Path narrow = directory.resolve("narrow");
    ModelExport.write(plain(BASE, narrow, Optional.of(StoredDtype.BF16), Long.MAX_VALUE));
    Path small = directory.resolve("small");
    scaledAdapter(small, 1e-6f);
    Survival lost = survival(narrow, small, directory.resolve("lost"));
    assertTrue(lost.fraction() < 0.5, lost.toString());
    assertTrue(lost.along() < 0.1, lost.toString());
    assertTrue(lost.unchanged() > 0.999, lost.toString());
    Survival kept = survival(narrow, ADAPTER, directory.resolve("kept"));
    assertEquals(1, kept.fraction(), 1e-2);
    assertEquals(1, kept.along(), 1e-2);
    assertTrue(kept.unchanged() < 0.02, kept.toString());
  }

  private static Survival survival(Path model, Path adapter, Path output) {
    return ModelExport.write(
            new ModelExport.Request(
                model, Optional.of(adapter), output, false, Optional.empty(), Long.MAX_VALUE))
        .survival()
        .orElseThrow();
  }

  private static void scaledAdapter(Path target, float factor) throws IOException {
    Files.createDirectories(target);
    Files.copy(ADAPTER.resolve("adapter_config.json"), target.resolve("adapter_config.json"));
    Path weights = target.resolve("adapter_model.safetensors");
    Files.copy(ADAPTER.resolve("adapter_model.safetensors"), weights);
    try (SafetensorsFile file = SafetensorsFile.open(weights)) {
      for (String name : file.names()) {
        if (name.contains("lora_B")) {
          float[] values = Goldens.floats(file, name);
          for (int i = 0; i < values.length; i++) {
            values[i] *= factor;
          }
          overwrite(weights, file.info(name), values);
        }
      }
    }
  }

  /** Puts values in the place of a tensor's first ones. */
  private static void overwrite(Path file, TensorInfo info, float... values) throws IOException {
    byte[] bytes = Files.readAllBytes(file);
    ByteBuffer buffer = ByteBuffer.wrap(bytes).order(ByteOrder.LITTLE_ENDIAN);
    int data = Math.toIntExact(Long.BYTES + buffer.getLong(0) + info.begin());
    for (float value : values) {
      buffer.putFloat(data, value);
      data += Float.BYTES;
    }
    Files.write(file, bytes);
  }

  @ParameterizedTest
  @ValueSource(longs = {1, 13_000, 40_000, 200_000})
  void shardsHoldTheSameBytes(long limit) throws IOException {
    Path output = directory.resolve("sharded");
    ModelExport.Result result = ModelExport.write(plain(BASE, output, Optional.empty(), limit));
    List<Path> files = new ArrayList<>();
    try (Stream<Path> listed = Files.list(output)) {
      listed.filter(f -> f.toString().endsWith(".safetensors")).forEach(files::add);
    }
    assertEquals(result.files(), files.size());
    assertEquals(limit == 200_000, Files.exists(output.resolve("model.safetensors")));
    assertEquals(limit != 200_000, Files.exists(output.resolve("model.safetensors.index.json")));
    Map<String, float[]> expected = new HashMap<>();
    try (SafetensorsFile file = SafetensorsFile.open(BASE.resolve("model.safetensors"))) {
      file.names().forEach(name -> expected.put(name, Goldens.floats(file, name)));
    }
    long total = 0;
    for (Path file : files) {
      try (SafetensorsFile shard = SafetensorsFile.open(file)) {
        long bytes = 0;
        for (String name : shard.names()) {
          assertArrayEquals(expected.remove(name), Goldens.floats(shard, name), name);
          bytes += shard.info(name).bytes();
        }
        assertTrue(bytes <= limit || shard.names().size() == 1, file + " " + bytes);
        total += bytes;
      }
    }
    assertEquals(Map.of(), expected);
    assertEquals(128_128, total);
    if (limit != 200_000) {
      JsonNode index =
          new ObjectMapper()
              .readTree(Files.readString(output.resolve("model.safetensors.index.json")));
      assertEquals(total, index.at("/metadata/total_size").asLong());
      assertEquals(30, index.path("weight_map").size());
    }
    assertClose(
        nll(BASE, Optional.empty(), sequences(BASE)),
        nll(output, Optional.empty(), sequences(BASE)));
  }

  @Test
  void bf16AndBackIsTheNearest() {
    Path narrow = directory.resolve("narrow");
    Path wide = directory.resolve("wide");
    ModelExport.write(plain(BASE, narrow, Optional.of(StoredDtype.BF16), Long.MAX_VALUE));
    ModelExport.write(plain(narrow, wide, Optional.of(StoredDtype.F32), Long.MAX_VALUE));
    try (SafetensorsFile base = SafetensorsFile.open(BASE.resolve("model.safetensors"));
        SafetensorsFile back = SafetensorsFile.open(wide.resolve("model.safetensors"))) {
      for (String name : base.names()) {
        float[] expected = Goldens.floats(base, name);
        for (int i = 0; i < expected.length; i++) {
          expected[i] = FloatStream.round(StoredDtype.BF16, expected[i]);
        }
        assertArrayEquals(expected, Goldens.floats(back, name), name);
      }
    }
  }

  private String refusal(ModelExport.Request request) {
    String message =
        assertThrows(UserException.class, () -> ModelExport.write(request)).getMessage();
    assertFalse(Files.exists(request.output()), message);
    return message;
  }

  private Path copyOfBase() throws IOException {
    Path copy = Files.createDirectories(directory.resolve("copy"));
    for (String name : List.of("config.json", "model.safetensors")) {
      Files.copy(BASE.resolve(name), copy.resolve(name));
    }
    return copy;
  }

  @Test
  void whatFp16CannotHoldIsRefused() throws IOException {
    Path model = copyOfBase();
    Path weights = model.resolve("model.safetensors");
    try (SafetensorsFile file = SafetensorsFile.open(weights)) {
      overwrite(weights, file.info("model.norm.weight"), 70_000f);
    }
    String message =
        refusal(
            plain(model, directory.resolve("out"), Optional.of(StoredDtype.F16), Long.MAX_VALUE));
    assertTrue(message.contains("model.norm.weight"), message);
    assertTrue(message.contains("bf16"), message);
    ModelExport.write(
        plain(model, directory.resolve("out"), Optional.of(StoredDtype.BF16), Long.MAX_VALUE));
  }

  @Test
  void anAdapterOfAnotherModelOrWithNanIsRefused() throws IOException {
    Path tied = Goldens.path("llama-tiny-tied");
    assertTrue(refusal(request(tied, directory.resolve("out"))).contains("base model"));
    Path broken = directory.resolve("broken");
    scaledAdapter(broken, Float.NaN);
    String message =
        refusal(
            new ModelExport.Request(
                BASE,
                Optional.of(broken),
                directory.resolve("out"),
                false,
                Optional.empty(),
                Long.MAX_VALUE));
    assertTrue(message.contains("NaN"), message);
  }

  @Test
  void weightsThatDoNotFitTheConfigAreListed() throws IOException {
    Path model = copyOfBase();
    Path config = model.resolve("config.json");
    Files.writeString(
        config,
        Files.readString(config)
            .replace("\"num_hidden_layers\": 3", "\"num_hidden_layers\": 4")
            .replace("\"vocab_size\": 101", "\"vocab_size\": 96"));
    List<String> problems = ModelCheck.problems(model, ModelDirectory.config(model));
    assertEquals(3, problems.size(), problems.toString());
    assertTrue(problems.get(0).contains("lack model.layers.3.input_layernorm.weight"));
    assertTrue(problems.get(0).endsWith("and 4 more"), problems.get(0));
    assertTrue(problems.get(1).contains("[101, 32], by config.json [96, 32]"), problems.get(1));
    String message = refusal(request(model, directory.resolve("out")));
    assertTrue(message.contains("; "), message);
  }
}
