package org.lethe.checkpoint;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import com.fasterxml.jackson.databind.node.ObjectNode;
import java.io.IOException;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.List;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;
import org.lethe.TestDevice;
import org.lethe.UserException;
import org.lethe.kernels.Backend;
import org.lethe.kernels.Dtype;
import org.lethe.kernels.Ops;
import org.lethe.kernels.Staging;
import org.lethe.model.Goldens;
import org.lethe.model.LoraConfig;
import org.lethe.model.Model;

class ModelDirectoryTest {
  private static final List<String> FILES =
      List.of("config.json", "generation_config.json", "model.safetensors");

  @TempDir private Path directory;

  private static Model load(Backend backend, Dtype dtype, Path from) {
    return ModelDirectory.load(new Ops(backend, dtype), from, 64);
  }

  @ParameterizedTest
  @CsvSource({
    "F32, llama-tiny",
    "BF16, llama-tiny",
    "F32, llama-tiny-tied",
    "BF16, llama-tiny-tied"
  })
  void whatIsSavedIsLoadedAndSavedAgainToTheSameBytes(Dtype dtype, String name) throws IOException {
    Path golden = Goldens.path(name);
    Path first = directory.resolve("first");
    Path second = directory.resolve("second");
    try (Backend backend = TestDevice.open(1)) {
      try (Model model = load(backend, dtype, golden)) {
        ModelDirectory.save(model, ModelDirectory.config(golden), golden, first, false);
      }
      try (Model model = load(backend, dtype, first)) {
        ModelDirectory.save(model, ModelDirectory.config(first), first, second, false);
      }
    }
    for (String file : FILES) {
      assertArrayEquals(
          Files.readAllBytes(first.resolve(file)), Files.readAllBytes(second.resolve(file)), file);
    }
    assertEquals(ModelDirectory.config(golden).model(), ModelDirectory.config(second).model());
    try (SafetensorsFile before = SafetensorsFile.open(golden.resolve("model.safetensors"));
        SafetensorsFile after = SafetensorsFile.open(second.resolve("model.safetensors"))) {
      assertEquals(before.names(), after.names());
      for (String tensor : before.names()) {
        assertEquals(before.info(tensor).shape(), after.info(tensor).shape(), tensor);
        assertEquals(dtype.name(), after.info(tensor).dtype().name(), tensor);
        if (dtype == Dtype.F32) {
          assertArrayEquals(Goldens.floats(before, tensor), Goldens.floats(after, tensor), tensor);
        }
      }
    }
  }

  @Test
  void bf16IsTheNearestToTheFp32Weights() {
    try (Backend backend = TestDevice.open(1);
        Model narrow = load(backend, Dtype.BF16, Goldens.path("llama-tiny"));
        SafetensorsFile wide = SafetensorsFile.open(Goldens.path("llama-tiny/model.safetensors"));
        Staging staging = new Staging(1 << 12)) {
      for (String name : narrow.layout().parameters().keySet()) {
        float[] expected = Goldens.floats(wide, name);
        int[] next = {0};
        narrow.readWeight(
            name,
            staging,
            piece -> {
              while (piece.hasRemaining()) {
                assertEquals(nearest(expected[next[0]++]), piece.getShort(), name);
              }
            });
        assertEquals(expected.length, next[0]);
      }
    }
  }

  /** Round to nearest, ties to even, of a finite number that does not overflow. */
  private static short nearest(float value) {
    int bits = Float.floatToRawIntBits(value);
    int odd = (bits >>> Short.SIZE) & 1;
    return (short) ((bits + 0x7fff + odd) >>> Short.SIZE);
  }

  @ParameterizedTest
  @CsvSource({"F32", "BF16"})
  void anAdapterIsLoadedAndSavedAgainToTheSameBytes(Dtype dtype) throws IOException {
    Path first = directory.resolve("first");
    Path second = directory.resolve("second");
    try (Backend backend = TestDevice.open(1)) {
      try (Model model = load(backend, dtype, Goldens.path("llama-tiny"))) {
        model.addLora(LoraConfig.all(3, 6), 5);
        AdapterDirectory.save(model.lora(), model, "base", first, false);
      }
      try (Model model = load(backend, dtype, Goldens.path("llama-tiny"))) {
        AdapterDirectory.load(model, first, true);
        AdapterDirectory.save(model.lora(), model, "base", second, false);
      }
    }
    for (String file : List.of("adapter_config.json", "adapter_model.safetensors")) {
      assertArrayEquals(
          Files.readAllBytes(first.resolve(file)), Files.readAllBytes(second.resolve(file)), file);
    }
  }

  /** Other layers than the weights have, and another number of key and value heads. */
  @ParameterizedTest
  @CsvSource(
      delimiter = '|',
      value = {
        "num_hidden_layers | 4 | lacks 9 tensors that config.json asks for, 'model.layers.3.",
        "num_hidden_layers | 2 | has 9 tensors that config.json does not ask for, 'model.layers.2.",
        "num_key_value_heads | 1 | 'model.layers.0.self_attn.k_proj.weight' has the shape",
      })
  void weightsOfAnotherConfigAreNamedWithTheirDirectory(String key, int value, String words)
      throws IOException {
    Path base = Goldens.path("llama-tiny");
    ObjectNode config = (ObjectNode) Goldens.json("llama-tiny/config.json");
    Files.copy(base.resolve("model.safetensors"), directory.resolve("model.safetensors"));
    Files.writeString(directory.resolve("config.json"), config.put(key, value).toString());
    try (Backend backend = TestDevice.open(1)) {
      String message =
          assertThrows(UserException.class, () -> load(backend, Dtype.F32, directory)).getMessage();
      assertTrue(message.startsWith(directory + ": "), message);
      assertTrue(message.contains(words), message);
      assertTrue(message.endsWith("get config.json and weights that belong together"), message);
    }
  }

  /** transformers 5 would not tie this one, 4 would; equal copies mean the same to both. */
  @Test
  void aTiedHeadThatIsAnotherIsRefused() throws IOException {
    Path base = Goldens.path("llama-tiny");
    ObjectNode config = (ObjectNode) Goldens.json("llama-tiny/config.json");
    Files.copy(base.resolve("model.safetensors"), directory.resolve("model.safetensors"));
    Files.writeString(
        directory.resolve("config.json"), config.put("tie_word_embeddings", true).toString());
    try (Backend backend = TestDevice.open(1)) {
      String message =
          assertThrows(UserException.class, () -> load(backend, Dtype.F32, directory)).getMessage();
      assertTrue(message.startsWith(directory.resolve("config.json") + ": key 'tie_"), message);
      assertTrue(message.contains("lm_head.weight"), message);
      assertTrue(message.contains("set it to false"), message);
      copyEmbeddingToHead(directory.resolve("model.safetensors"));
      load(backend, Dtype.F32, directory).close();
    }
  }

  private static void copyEmbeddingToHead(Path file) throws IOException {
    byte[] bytes = Files.readAllBytes(file);
    long data = Long.BYTES + ByteBuffer.wrap(bytes).order(ByteOrder.LITTLE_ENDIAN).getLong(0);
    try (SafetensorsFile tensors = SafetensorsFile.open(file)) {
      TensorInfo table = tensors.info("model.embed_tokens.weight");
      TensorInfo head = tensors.info("lm_head.weight");
      System.arraycopy(
          bytes,
          Math.toIntExact(data + table.begin()),
          bytes,
          Math.toIntExact(data + head.begin()),
          Math.toIntExact(head.bytes()));
    }
    Files.write(file, bytes);
  }

  @Test
  void anAdapterThatDivergedIsNotLoaded() throws IOException {
    Path adapter = directory.resolve("adapter");
    try (Backend backend = TestDevice.open(1);
        Model model = load(backend, Dtype.F32, Goldens.path("llama-tiny"))) {
      model.addLora(LoraConfig.all(2, 4), 5);
      AdapterDirectory.save(model.lora(), model, "base", adapter, false);
    }
    Path file = adapter.resolve("adapter_model.safetensors");
    byte[] bytes = Files.readAllBytes(file);
    // The last value of the last tensor, little-endian: infinity.
    ByteBuffer.wrap(bytes)
        .order(ByteOrder.LITTLE_ENDIAN)
        .putFloat(bytes.length - Float.BYTES, Float.POSITIVE_INFINITY);
    Files.write(file, bytes);
    try (Backend backend = TestDevice.open(1);
        Model model = load(backend, Dtype.F32, Goldens.path("llama-tiny"))) {
      String message =
          assertThrows(UserException.class, () -> AdapterDirectory.load(model, adapter, false))
              .getMessage();
      assertTrue(message.startsWith(file + ": tensor 'base_model.model."), message);
      assertTrue(message.contains("' holds Infinity; "), message);
    }
  }
}
