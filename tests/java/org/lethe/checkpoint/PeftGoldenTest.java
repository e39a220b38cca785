package org.lethe.checkpoint;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import com.fasterxml.jackson.databind.JsonNode;
import java.nio.ByteBuffer;
import java.nio.file.Path;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.TreeMap;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.ValueSource;
import org.lethe.TestDevice;
import org.lethe.kernels.Backend;
import org.lethe.kernels.Dtype;
import org.lethe.kernels.Ops;
import org.lethe.model.Goldens;
import org.lethe.model.LoraConfig;
import org.lethe.model.Model;
import org.lethe.model.ModelLogits;

/** Adapters in every spelling that PEFT writes: {@code tests/oracle/make_peft.py}. */
class PeftGoldenTest {
  /** The project's bound for fp32 logits against fp64, of the largest logit. */
  private static final double LOGITS = 1e-5;

  private static final double SCALE = 1e-15;
  private static final Path BASE = Goldens.path("llama-tiny");

  @TempDir Path directory;

  private static JsonNode described(String name) {
    return Goldens.json("peft/cases.json").get("cases").get(name);
  }

  private static float[] expected(String name) {
    try (SafetensorsFile file = SafetensorsFile.open(Goldens.path("peft/logits.safetensors"))) {
      return Goldens.floats(file, name);
    }
  }

  private static float[] logits(Path base, Optional<Path> adapter) {
    try (Backend backend = TestDevice.open(2);
        Model model = ModelDirectory.load(new Ops(backend, Dtype.F32), base, 64);
        SafetensorsFile file = SafetensorsFile.open(BASE.resolve("forward.safetensors"))) {
      adapter.ifPresent(path -> AdapterDirectory.load(model, path, false));
      List<int[]> sequences =
          Goldens.split(Goldens.ints(file, "ids"), Goldens.ints(file, "lengths"));
      return ModelLogits.of(model, sequences, adapter.isPresent());
    }
  }

  @ParameterizedTest
  @ValueSource(
      strings = {
        "rslora",
        "patterns",
        "stabilised-patterns",
        "regex",
        "layers",
        "one-layer",
        "excluded",
        "bf16",
        "named"
      })
  void isReadWrittenAndMergedAsPeftMeansIt(String name) {
    JsonNode described = described(name);
    Path adapter = Goldens.path(described.get("folder").asText());
    requireModules(described.get("modules"), adapter);
    float[] golden = expected(name);
    float[] base = logits(BASE, Optional.empty());
    assertTrue(ModelLogits.error(base, golden) > 100 * LOGITS, "the adapter does nothing");
    assertLogits(golden, logits(BASE, Optional.of(adapter)), name);

    Path again = directory.resolve("again");
    AdapterFiles.rewrite(adapter, again, Optional.empty(), false);
    assertSameTensors(adapter, again);
    requireModules(described.get("modules"), again);
    assertLogits(golden, logits(BASE, Optional.of(again)), name + " written again");

    Path merged = directory.resolve("merged");
    ModelExport.write(
        new ModelExport.Request(
            BASE, Optional.of(adapter), merged, false, Optional.empty(), 20_000));
    assertLogits(golden, logits(merged, Optional.empty()), name + " merged");
  }

  private static void requireModules(JsonNode modules, Path adapter) {
    try (Backend backend = TestDevice.open(1);
        Model model = ModelDirectory.load(new Ops(backend, Dtype.F32), BASE, 64);
        PeftAdapter file = PeftAdapter.open(adapter, ModelDirectory.linears(model.config()))) {
      Map<String, LoraConfig.Adapter> found = new TreeMap<>(file.adapters());
      Map<String, JsonNode> expected = new TreeMap<>();
      modules.properties().forEach(e -> expected.put(e.getKey(), e.getValue()));
      assertEquals(expected.keySet(), found.keySet());
      expected.forEach(
          (module, size) -> {
            assertEquals(size.get("rank").intValue(), found.get(module).rank(), module);
            double scale = size.get("scale").doubleValue();
            assertEquals(scale, found.get(module).scale(), SCALE * scale, module);
          });
    }
  }

  private static void assertLogits(float[] golden, float[] found, String what) {
    double error = ModelLogits.error(found, golden);
    assertTrue(error <= LOGITS, what + " differs by " + error + " of the largest logit");
  }

  private static void assertSameTensors(Path before, Path after) {
    try (SafetensorsFile x = SafetensorsFile.open(before.resolve(PeftAdapter.WEIGHTS_FILE));
        SafetensorsFile y = SafetensorsFile.open(after.resolve(PeftAdapter.WEIGHTS_FILE))) {
      assertEquals(new TreeMap<>(types(x)), new TreeMap<>(types(y)));
      for (String name : x.names()) {
        assertArrayEquals(bytes(x, name), bytes(y, name), name);
      }
    }
  }

  private static Map<String, StoredDtype> types(SafetensorsFile file) {
    Map<String, StoredDtype> types = new TreeMap<>();
    file.names().forEach(name -> types.put(name, file.info(name).dtype()));
    return types;
  }

  private static byte[] bytes(SafetensorsFile file, String name) {
    ByteBuffer bytes = ByteBuffer.allocate(Math.toIntExact(file.info(name).bytes()));
    file.readInto(name, 0, bytes);
    return bytes.array();
  }
}
