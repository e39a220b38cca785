package org.lethe.checkpoint;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import com.fasterxml.jackson.databind.node.ObjectNode;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.OptionalInt;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;
import org.lethe.UserException;
import org.lethe.model.ModelConfig;

class HuggingFaceConfigTest {
  /** The keys transformers 5 writes. */
  private static final String V5 =
      """
      {"architectures": ["LlamaForCausalLM"], "attention_bias": false, "attention_dropout": 0.0,
       "bos_token_id": 1, "dtype": "float32", "eos_token_id": 2, "head_dim": 8,
       "hidden_act": "silu", "hidden_size": 32, "initializer_range": 0.02,
       "intermediate_size": 48, "max_position_embeddings": 64, "mlp_bias": false,
       "model_type": "llama", "num_attention_heads": 4, "num_hidden_layers": 2,
       "num_key_value_heads": 2, "pad_token_id": null, "pretraining_tp": 1,
       "rms_norm_eps": 1e-06, "rope_parameters": {"rope_theta": 10000.0, "rope_type": "default"},
       "tie_word_embeddings": true, "transformers_version": "5.0.0", "use_cache": true,
       "vocab_size": 97}
      """;

  private static final ModelConfig EXPECTED =
      ModelConfig.llama(new ModelConfig.Sizes(97, 32, 2, 4, 2, 8, 48, 64), 1e-6f, 10000, true);

  @TempDir Path dir;

  private ModelConfigFile read(JsonNode json) throws IOException {
    return HuggingFaceConfig.read(Files.writeString(dir.resolve("config.json"), json.toString()));
  }

  private static ObjectNode v5() throws IOException {
    return (ObjectNode) new ObjectMapper().readTree(V5);
  }

  @Test
  void readsTheSpellingOfTransformers5() throws IOException {
    ModelConfigFile file = read(v5());
    assertEquals(EXPECTED, file.model());
    assertEquals(OptionalInt.of(1), file.bosId());
    assertEquals(List.of(2), file.eosIds());
    assertEquals(Optional.of(StoredDtype.F32), file.dtype());
  }

  @Test
  void readsTheSpellingOfTransformers4() throws IOException {
    ObjectNode json = v5();
    json.remove(List.of("rope_parameters", "dtype", "head_dim", "mlp_bias"));
    json.put("rope_theta", 10000).putNull("rope_scaling").put("torch_dtype", "float32");
    assertEquals(EXPECTED, read(json).model());
    json.set("rope_scaling", new ObjectMapper().readTree("{\"type\":\"default\"}"));
    assertEquals(EXPECTED, read(json).model());
  }

  /** The keys of the published Llama 2 chat models, which are older than rope_theta. */
  @Test
  void aLlamaOlderThanItsRopeThetaTurnsByTheFirstBase() throws IOException {
    ObjectNode json = v5();
    json.remove(List.of("rope_parameters", "dtype", "head_dim", "mlp_bias", "attention_bias"));
    json.putNull("rope_scaling").put("torch_dtype", "float16").put("pretraining_tp", 1);
    assertEquals(EXPECTED, read(json).model());
    json.set("rope_scaling", new ObjectMapper().readTree("{\"type\":\"linear\",\"factor\":2}"));
    assertEquals(10000, read(json).model().rotary().theta());
  }

  @Test
  void absentKeyValueHeadsMeanPlainAttention() throws IOException {
    ObjectNode json = v5();
    json.remove("num_key_value_heads");
    assertEquals(4, read(json).model().kvHeads());
  }

  @Test
  void readsSeveralEndTokensAndNone() throws IOException {
    ObjectNode json = v5();
    json.putArray("eos_token_id").add(2).add(5);
    json.putNull("bos_token_id");
    assertEquals(List.of(2, 5), read(json).eosIds());
    assertEquals(OptionalInt.empty(), read(json).bosId());
  }

  @ParameterizedTest
  @CsvSource(
      delimiter = '|',
      quoteCharacter = '`',
      value = {
        "model_type | \"gpt2\" | phi3, gemma",
        "model_type | null | phi3, gemma",
        "architectures | [\"LlamaForSequenceClassification\"] | LlamaForCausalLM",
        "architectures | [] | LlamaForCausalLM",
        "hidden_act | \"gelu_fast\" | gelu_new",
        "hidden_act | null | is absent",
        "attention_bias | 1 | true or false",
        "mlp_bias | \"yes\" | true or false",
        "attention_dropout | 0.1 | must be 0",
        "rope_parameters | {\"rope_type\":\"llama3\",\"rope_theta\":5e5,\"factor\":8} |"
            + " low_freq_factor",
        "rope_parameters | {\"rope_type\":\"yarn\",\"rope_theta\":5e5,\"factor\":8} | longrope",
        "rope_parameters | {\"rope_type\":\"dynamic\",\"rope_theta\":5e5,\"factor\":8} | llama3",
        "rope_parameters | {\"rope_type\":\"linear\",\"rope_theta\":5e5} | factor",
        "rope_parameters |"
            + " {\"rope_type\":\"linear\",\"type\":\"default\",\"rope_theta\":5e5,\"factor\":8} |"
            + " is given as",
        "rope_parameters | {\"full_attention\":{\"rope_type\":\"default\",\"rope_theta\":5e5}} |"
            + " type of layer",
        "rope_scaling | {\"rope_type\":\"linear\",\"factor\":2} | disagree",
        "rope_parameters | {\"rope_type\":\"default\",\"rope_theta\":5e5,\"factor\":8} |"
            + " rope_parameters.factor",
        "rope_parameters | {\"rope_theta\":5e5} | rope_type",
        "rope_parameters | {\"rope_type\":\"default\"} | rope_theta",
        "rope_parameters | {\"rope_type\":\"default\",\"rope_theta\":0} | positive number",
        "rope_parameters | 3 | an object",
        "rope_theta | 5e5 | is given as",
        "partial_rotary_factor | 0.5 | must be 1",
        "rope_interleaved | true | only false",
        "quantization_config | {\"bits\":4} | not known",
        "sliding_window | 128 | not known",
        "auto_map | {\"AutoModel\":\"x.Y\"} | not known",
        "dtype | \"float64\" | float32",
        "torch_dtype | \"bfloat16\" | disagree",
        "vocab_size | 0 | positive whole",
        "vocab_size | 97.5 | positive whole",
        "vocab_size | 99999999999 | positive whole",
        "hidden_size | null | is absent",
        "head_dim | 7 | even",
        "num_key_value_heads | 3 | must divide",
        "rms_norm_eps | null | is absent",
        "rms_norm_eps | -1 | positive number",
        "tie_word_embeddings | null | lm_head.weight",
        "eos_token_id | 97 | below vocab_size",
        "bos_token_id | [1,2] | one token",
      })
  void refusesWhatItWouldComputeOtherwise(String key, String value, String words)
      throws IOException {
    ObjectNode json = v5();
    json.set(key, new ObjectMapper().readTree(value));
    String message = assertThrows(UserException.class, () -> read(json)).getMessage();
    assertTrue(message.startsWith(dir.resolve("config.json").toString()), message);
    assertTrue(message.contains("key '" + (words.equals("rope_theta") ? words : key)), message);
    assertTrue(message.contains(words), message);
  }

  @Test
  void refusesDuplicateKeysAndBrokenJson() throws IOException {
    for (String text : List.of("{\"a\":1,\"a\":1}", "{", "[]", "", "{} {}", "\ufeff{}")) {
      Path file = Files.writeString(dir.resolve("config.json"), text);
      assertThrows(UserException.class, () -> HuggingFaceConfig.read(file), text);
    }
    assertThrows(UserException.class, () -> HuggingFaceConfig.read(dir.resolve("absent.json")));
  }

  @Test
  void whatIsSavedKeepsEveryKeyAndOnlyChangesTheType() throws IOException {
    ObjectMapper mapper = new ObjectMapper();
    ObjectNode json = v5().put("transformers_version", "5.0.0");
    ModelConfigFile file = read(json);
    assertEquals(json.toString(), HuggingFaceConfig.configJson(file, StoredDtype.F32));
    ObjectNode half = json.deepCopy().put("dtype", "bfloat16");
    assertEquals(half, mapper.readTree(HuggingFaceConfig.configJson(file, StoredDtype.BF16)));
    half.remove("dtype");
    ModelConfigFile silent = read(half);
    assertEquals(
        half.put("torch_dtype", "float16"),
        mapper.readTree(HuggingFaceConfig.configJson(silent, StoredDtype.F16)));
    assertThrows(UserException.class, () -> HuggingFaceConfig.configJson(file, StoredDtype.I8));
  }

  @Test
  void whatIsWrittenReadsBackTheSame() throws IOException {
    ModelConfig sizes =
        ModelConfig.llama(new ModelConfig.Sizes(97, 32, 2, 4, 2, 16, 48, 64), 1e-5f, 500000, false);
    ModelConfigFile made = HuggingFaceConfig.ofLlama(sizes, 1, 2);
    for (StoredDtype dtype : List.of(StoredDtype.F32, StoredDtype.BF16, StoredDtype.F16)) {
      ModelConfigFile back =
          read(new ObjectMapper().readTree(HuggingFaceConfig.configJson(made, dtype)));
      assertEquals(sizes, back.model());
      assertEquals(made.bosId(), back.bosId());
      assertEquals(made.eosIds(), back.eosIds());
      assertEquals(Optional.of(dtype), back.dtype());
    }
    assertEquals(
        Map.of("bos_token_id", 1, "eos_token_id", 2),
        new ObjectMapper().readValue(HuggingFaceConfig.generationConfigJson(made), Map.class));
  }
}
