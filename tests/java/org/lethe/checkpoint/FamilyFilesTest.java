package org.lethe.checkpoint;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;

import com.fasterxml.jackson.databind.ObjectMapper;
import com.fasterxml.jackson.databind.node.ObjectNode;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Optional;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.MethodSource;
import org.lethe.TestDevice;
import org.lethe.data.TokenSequence;
import org.lethe.kernels.Backend;
import org.lethe.kernels.Dtype;
import org.lethe.kernels.Ops;
import org.lethe.method.Positions;
import org.lethe.model.Goldens;
import org.lethe.model.Model;
import org.lethe.train.Scorer;

/** Models of every family, written again: by export, from memory, and with an adapter merged in. */
class FamilyFilesTest {
  // Losses of some 70 tokens, each known to 2e-5, as against transformers itself.
  private static final double NLL_TOLERANCE = 2e-5;

  @TempDir Path directory;

  @ParameterizedTest
  @MethodSource("org.lethe.model.FamilyGoldenTest#families")
  void nothingAskedNothingChanged(String name) throws IOException {
    Path base = Goldens.path("families/" + name);
    Path exported = directory.resolve("exported");
    ModelExport.write(request(base, Optional.empty(), exported, Optional.empty()));
    Path saved = directory.resolve("saved");
    try (Backend backend = TestDevice.open(1);
        Model model = ModelDirectory.load(new Ops(backend, Dtype.BF16), base, 64)) {
      ModelDirectory.save(model, ModelDirectory.config(base), base, saved, false);
    }
    for (Path copy : new Path[] {exported, saved}) {
      assertEquals(
          Files.readString(base.resolve("config.json")),
          Files.readString(copy.resolve("config.json")));
      try (SafetensorsFile before = SafetensorsFile.open(base.resolve("model.safetensors"));
          SafetensorsFile after = SafetensorsFile.open(copy.resolve("model.safetensors"))) {
        assertEquals(before.names(), after.names());
        for (String tensor : before.names()) {
          assertEquals(before.info(tensor).shape(), after.info(tensor).shape(), tensor);
          assertArrayEquals(Goldens.bf16(before, tensor), Goldens.bf16(after, tensor), tensor);
        }
      }
    }
  }

  @ParameterizedTest
  @MethodSource("org.lethe.model.FamilyGoldenTest#families")
  void aMergedAdapterGivesPeftsLosses(String name) throws IOException {
    Path base = Goldens.path("families/" + name);
    Path merged = directory.resolve("merged");
    Optional<Path> adapter = Optional.of(base.resolve("adapter"));
    ModelExport.write(request(base, adapter, merged, Optional.of(StoredDtype.F32)));
    ObjectMapper mapper = new ObjectMapper();
    ObjectNode expected = (ObjectNode) mapper.readTree(base.resolve("config.json").toFile());
    expected.put(expected.has("dtype") ? "dtype" : "torch_dtype", "float32");
    assertEquals(expected, mapper.readTree(merged.resolve("config.json").toFile()));
    try (Backend backend = TestDevice.open(1);
        Model model = ModelDirectory.load(new Ops(backend, Dtype.F32), merged, 64);
        SafetensorsFile forward = SafetensorsFile.open(base.resolve("forward.safetensors"));
        SafetensorsFile golden = SafetensorsFile.open(base.resolve("gradients.safetensors"))) {
      var sequences =
          Goldens.split(Goldens.ints(forward, "ids"), Goldens.ints(forward, "lengths")).stream()
              .map(ids -> new TokenSequence(ids, 1))
              .toList();
      double sum = 0;
      int rows = 0;
      try (Scorer scorer = Scorer.forSequences(model, sequences, false)) {
        for (Scorer.Score score : scorer.score(sequences, Positions.ALL)) {
          sum += score.nll();
          rows += score.rows();
        }
      }
      double wanted = 0;
      for (float nll : Goldens.floats(golden, "lora_nll")) {
        wanted += nll;
      }
      assertEquals(wanted / rows, sum / rows, NLL_TOLERANCE);
    }
  }

  private static ModelExport.Request request(
      Path model, Optional<Path> adapter, Path output, Optional<StoredDtype> dtype) {
    return new ModelExport.Request(model, adapter, output, false, dtype, Long.MAX_VALUE);
  }
}
