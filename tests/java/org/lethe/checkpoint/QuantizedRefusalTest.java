package org.lethe.checkpoint;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.io.IOException;
import java.nio.ByteBuffer;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Optional;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;
import org.lethe.UserException;
import org.lethe.model.Goldens;

/** Quantised models of which a part is missing, damaged or of another kind. */
class QuantizedRefusalTest {
  private static final String MODULE = "model.layers.1.self_attn.k_proj";
  private static final String WEIGHT = MODULE + ".weight";

  @TempDir Path directory;

  private Path copy(String golden) throws IOException {
    return ModelWeightsFiles.copy(Goldens.path("quant").resolve(golden), directory.resolve(golden));
  }

  private static void assertRefused(Path model, String file, String... parts) {
    String message =
        assertThrows(UserException.class, () -> ModelWeights.open(model).close()).getMessage();
    assertTrue(message.startsWith(model.resolve(file) + ": "), message);
    for (String part : parts) {
      assertTrue(message.contains(part), "no \"" + part + "\" in: " + message);
    }
  }

  @ParameterizedTest
  @CsvSource({
    "llama-nf4, .weight, lacks",
    "llama-nf4, .weight.quant_state.bitsandbytes__nf4, its quant_state",
    "llama-nf4, .weight.absmax, lacks",
    "llama-nf4, .weight.quant_map, lacks",
    "llama-nf4-double, .weight.absmax, lacks",
    "llama-nf4-double, .weight.nested_absmax, lacks",
    "llama-nf4-double, .weight.nested_quant_map, lacks",
    "llama-int8, .SCB, lacks",
    "llama-int8, .weight, lacks"
  })
  void aMissingPartIsNamed(String golden, String suffix, String message) throws IOException {
    Path model = copy(golden);
    ModelWeightsFiles.edit(model, MODULE + suffix, (spec, bytes) -> Optional.empty());
    assertRefused(
        model, "model.safetensors", "'" + MODULE + suffix, message, "quantise the model anew");
  }

  @ParameterizedTest
  @CsvSource({
    "llama-nf4, .weight, by its quant_state 256 for the shape [16; 32]",
    "llama-nf4, .weight.absmax, needs 8 numbers of type F32",
    "llama-nf4, .weight.quant_map, needs 16 numbers of type F32",
    "llama-nf4-double, .weight.absmax, needs 8 numbers of type U8",
    "llama-nf4-double, .weight.nested_absmax, needs 1 numbers of type F32",
    "llama-nf4-double, .weight.nested_quant_map, needs 256 numbers of type F32",
    "llama-int8, .SCB, needs 16 numbers of type F32",
    "llama-int8, .weight_format, needs 1 numbers of type U8"
  })
  void aPartOfAnotherLengthIsNamed(String golden, String suffix, String message)
      throws IOException {
    Path model = copy(golden);
    ModelWeightsFiles.edit(
        model,
        MODULE + suffix,
        (spec, bytes) -> {
          long one = spec.dtype().bits() / 8;
          long elements = bytes.remaining() / one + 1;
          return ModelWeightsFiles.tensor(
              TensorSpec.of(spec.name(), spec.dtype(), elements),
              ByteBuffer.allocate((int) (elements * one)).put(bytes));
        });
    assertRefused(
        model, "model.safetensors", "'" + MODULE, message.replace(';', ','), "get the file again");
  }

  private void state(Path model, String from, String to) throws IOException {
    ModelWeightsFiles.edit(
        model,
        WEIGHT + ".quant_state.bitsandbytes__nf4",
        (spec, bytes) -> {
          String text = StandardCharsets.UTF_8.decode(bytes).toString();
          assertTrue(text.contains(from), text);
          byte[] changed = text.replace(from, to).getBytes(StandardCharsets.UTF_8);
          return ModelWeightsFiles.tensor(
              TensorSpec.of(spec.name(), StoredDtype.U8, changed.length), ByteBuffer.wrap(changed));
        });
  }

  @ParameterizedTest
  @CsvSource(
      delimiter = '|',
      value = {
        "llama-nf4        | \"nf4\"          | \"fp4\"   | 'quant_type', not nf4",
        "llama-nf4        | 64,              | 65,       | blocksize 65",
        "llama-nf4        | 64,              | 32,       | needs 16 numbers of type F32",
        "llama-nf4        | [16              | [17       | by its quant_state 272",
        "llama-nf4        | \"float32\"      | \"int8\"  | 'dtype'",
        "llama-nf4-double | nested_blocksize | nested_bs | unknown key 'nested_bs'",
        "llama-nf4-double | 256,             | 4,        | needs 2 numbers of type F32",
      })
  void aStateThatDoesNotFitIsRefused(String golden, String from, String to, String message)
      throws IOException {
    Path model = copy(golden);
    state(model, from, to);
    assertRefused(model, "model.safetensors", "'" + WEIGHT + "'", message);
  }

  @Test
  void nestedScalesWithoutTheirOffsetAreRefused() throws IOException {
    Path model = copy("llama-nf4-double");
    ModelWeightsFiles.edit(
        model,
        WEIGHT + ".quant_state.bitsandbytes__nf4",
        (spec, bytes) -> {
          String text = StandardCharsets.UTF_8.decode(bytes).toString();
          byte[] cut =
              (text.substring(0, text.indexOf(", \"nested_")) + "}")
                  .getBytes(StandardCharsets.UTF_8);
          return ModelWeightsFiles.tensor(
              TensorSpec.of(spec.name(), StoredDtype.U8, cut.length), ByteBuffer.wrap(cut));
        });
    assertRefused(model, "model.safetensors", "'" + WEIGHT + "'", "no nested_offset");
  }

  @Test
  void aMapThatIsNotTheTagsIsRefused() throws IOException {
    Path model = copy("llama-nf4");
    ModelWeightsFiles.edit(
        model,
        WEIGHT + ".quant_map",
        (spec, bytes) -> ModelWeightsFiles.tensor(spec, bytes.putFloat(4 * 9, 0.25f)));
    assertRefused(
        model, "model.safetensors", "'" + WEIGHT + "'", "tagged nf4", "says 0.25 at 9, not 0.16");
  }

  @Test
  void aQuantTypeNobodyKnowsIsRefused() throws IOException {
    Path model = copy("llama-nf4");
    ModelWeightsFiles.edit(
        model,
        WEIGHT + ".quant_state.bitsandbytes__nf4",
        (spec, bytes) ->
            ModelWeightsFiles.tensor(
                new TensorSpec(spec.name().replace("nf4", "af4"), spec.dtype(), spec.shape()),
                bytes));
    assertRefused(model, "model.safetensors", "'" + WEIGHT + "'", "'af4', Lethe reads nf4 and fp4");
  }

  @Test
  void aLayoutForOneKindOfDeviceIsRefused() throws IOException {
    Path model = copy("llama-int8");
    ModelWeightsFiles.edit(
        model,
        MODULE + ".weight_format",
        (spec, bytes) -> ModelWeightsFiles.tensor(spec, bytes.put(0, (byte) 2)));
    assertRefused(model, "model.safetensors", "'" + WEIGHT + "'", "weight_format 2 (col_turing)");
  }

  @Test
  void scalesBesideAPlainWeightAreRefused() throws IOException {
    Path model = copy("llama-int8");
    ModelWeightsFiles.edit(
        model,
        WEIGHT,
        (spec, bytes) ->
            ModelWeightsFiles.tensor(
                new TensorSpec(spec.name(), StoredDtype.U8, spec.shape()), bytes));
    assertRefused(model, "model.safetensors", "'" + WEIGHT + "'", "is of type U8");
  }

  private static void config(Path model, String from, String to) throws IOException {
    Path file = model.resolve("config.json");
    String text = Files.readString(file);
    String changed = text.replaceFirst(from, to);
    assertTrue(!text.equals(changed), from + " is not in " + text);
    Files.writeString(file, changed);
  }

  @ParameterizedTest
  @CsvSource(
      delimiter = '|',
      value = {
        "llama-nf4  | \"bitsandbytes\"  | \"gptq\"   | quant_method | is \"gptq\"; Lethe reads",
        "llama-nf4  | \"bitsandbytes\"  | \"fp8\"    | quant_method | unquantised weights",
        "llama-nf4  | \"bitsandbytes\"  | null       | quant_method | is null",
        "llama-nf4  | \"nf4\"           | \"af4\"    | bnb_4bit_quant_type | nf4 and fp4",
        "llama-nf4  | 8bit\": false     | 8bit\": true | quantization_config | says both",
        "llama-int8 | 8bit\": true      | 8bit\": \"yes\" | load_in_8bit | true or false",
        "llama-int8 | fp16_weight\": false | fp16_weight\": true | llm_int8_has_fp16_weight | fp16",
        "llama-nf4  | \"quant_method    | \"bits\": 3, \"quant_method | bits | is not known",
      })
  void anotherQuantisationIsRefused(
      String golden, String from, String to, String key, String message) throws IOException {
    Path model = copy(golden);
    config(model, from, to);
    assertRefused(model, "config.json", "quantization_config", key, message);
    // Who only reads the config is told, too.
    assertTrue(
        assertThrows(UserException.class, () -> ModelDirectory.config(model))
            .getMessage()
            .contains(message));
  }

  @Test
  void configAndWeightsMustAgree() throws IOException {
    Path model = copy("llama-nf4");
    String said = Files.readString(model.resolve("config.json"));
    config(model, "\"quantization_config\"", "\"_name_or_path\"");
    assertRefused(
        model, "model.safetensors", "4-bit weight", "config.json does not announce", "saved with");
    Path eight = copy("llama-int8");
    Files.writeString(eight.resolve("config.json"), said);
    assertRefused(eight, "model.safetensors", "8-bit weight", "does not announce");
    Path plain = ModelWeightsFiles.copy(Goldens.path("llama-tiny"), directory.resolve("plain"));
    Files.writeString(plain.resolve("config.json"), said);
    assertRefused(plain, "config.json", "announces 4-bit weights, but none", "remove the key");
  }

  @Test
  void olderConfigsSayOnlyTheFlags() throws IOException {
    Path model = copy("llama-nf4");
    config(model, ",\\s*\"quant_method\": \"bitsandbytes\"", "");
    config(model, "\"_load_in_4bit\": true,", "");
    config(model, "\"bnb_4bit_quant_type\": \"nf4\",", "");
    try (ModelWeights weights = ModelWeights.open(model)) {
      assertEquals(21, weights.quantizedNames().size());
    }
  }

  @Test
  void packedBytesMayBeCalledAnotherType() throws IOException {
    // bnb_4bit_quant_storage=bfloat16, as FSDP wants it: the same bytes, half as many elements.
    Path model = copy("llama-nf4");
    ModelWeightsFiles.edit(
        model,
        WEIGHT,
        (spec, bytes) ->
            ModelWeightsFiles.tensor(TensorSpec.of(WEIGHT, StoredDtype.BF16, 128, 1), bytes));
    try (ModelWeights weights = ModelWeights.open(model);
        ModelWeights golden = ModelWeights.open(Goldens.path("quant/llama-nf4"))) {
      assertEquals(golden.info(WEIGHT), weights.info(WEIGHT));
      assertEquals(golden.slices(WEIGHT), weights.slices(WEIGHT));
    }
  }
}
