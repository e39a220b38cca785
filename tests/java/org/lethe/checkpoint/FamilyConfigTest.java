package org.lethe.checkpoint;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import com.fasterxml.jackson.databind.ObjectMapper;
import com.fasterxml.jackson.databind.node.ObjectNode;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.List;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;
import org.junit.jupiter.params.provider.ValueSource;
import org.lethe.UserException;
import org.lethe.kernels.Activation;
import org.lethe.kernels.NormKind;
import org.lethe.model.Goldens;
import org.lethe.model.ModelConfig;
import org.lethe.model.Rotary;

/** What the configs of the families mean, on those that transformers wrote for the goldens. */
class FamilyConfigTest {
  @TempDir Path dir;

  private static ObjectNode golden(String name) {
    return (ObjectNode) Goldens.json("families/" + name + "/config.json");
  }

  private ModelConfig read(ObjectNode json) throws IOException {
    Path file = Files.writeString(dir.resolve("config.json"), json.toString());
    return HuggingFaceConfig.read(file).model();
  }

  @Test
  void llamaReadsScalingAndBiases() throws IOException {
    ModelConfig c = read(golden("llama-3.1"));
    assertEquals(new Rotary(500, 16, new Rotary.Llama3(8, 1, 4, 32)), c.rotary());
    assertTrue(c.tiedHead());
    ModelConfig b = read(golden("llama-bias"));
    assertEquals(new Rotary(10000, 8, new Rotary.Linear(2)), b.rotary());
    assertTrue(b.attention().inputBias() && b.attention().outputBias() && b.feedForward().bias());
  }

  @Test
  void windowsStandWhereTransformersPutsThem() throws IOException {
    assertEquals(List.of(8, 8, 8), read(golden("mistral")).attention().windows());
    assertEquals(List.of(0, 0, 8), read(golden("qwen2")).attention().windows());
    assertEquals(List.of(8, 0, 8), read(golden("qwen3")).attention().windows());
    assertEquals(List.of(12, 12, 12), read(golden("phi3")).attention().windows());
    assertEquals(List.of(8, 0, 8), read(golden("gemma2")).attention().windows());
    ObjectNode none = golden("mistral").putNull("sliding_window");
    assertEquals(List.of(0, 0, 0), read(none).attention().windows());
    ObjectNode off = golden("qwen2").put("use_sliding_window", false);
    assertEquals(List.of(0, 0, 0), read(off).attention().windows());
    ObjectNode all = golden("qwen2").put("max_window_layers", 0);
    assertEquals(List.of(8, 8, 8), read(all).attention().windows());
    ObjectNode silent = golden("qwen2");
    silent.remove(List.of("use_sliding_window", "sliding_window", "max_window_layers"));
    assertEquals(List.of(0, 0, 0), read(silent).attention().windows());
  }

  @Test
  void phiIsParallelWithLayerNormsAndPartialRotation() throws IOException {
    ModelConfig c = read(golden("phi"));
    assertEquals(NormKind.LAYER, c.norms().kind());
    assertEquals(4, c.rotary().width());
    assertTrue(c.feedForward().parallel() && !c.feedForward().gated() && c.ends().headBias());
    ObjectNode silent = golden("phi");
    silent.remove("partial_rotary_factor");
    assertEquals(c, read(silent));
    ObjectNode early = golden("phi").put("_flash_attn_2_enabled", true);
    early.putObject("auto_map").put("AutoModelForCausalLM", "modeling_phi.PhiForCausalLM");
    assertEquals(c, read(early));
  }

  @ParameterizedTest
  @ValueSource(strings = {"su", "yarn", "longrope"})
  void phi3sOldNamesMeanLongrope(String type) throws IOException {
    ObjectNode json = golden("phi3");
    ((ObjectNode) json.get("rope_scaling")).put("type", type);
    Rotary rotary = read(json).rotary();
    assertEquals(6, rotary.width());
    // √(1 + ln(64/16) / ln 16) = √1.5
    assertEquals(Math.sqrt(1.5), ((Rotary.LongRope) rotary.scaling()).attentionFactor(), 1e-15);
    assertEquals(List.of(0, 1), List.of(rotary.table(16), rotary.table(17)));
    // What transformers 5 writes for the same model.
    ObjectNode v5 = golden("phi3");
    ObjectNode rope = (ObjectNode) v5.remove("rope_scaling");
    rope.remove("type");
    rope.put("rope_type", "longrope")
        .put("rope_theta", 10000.0)
        .put("partial_rotary_factor", 0.75)
        .put("original_max_position_embeddings", 16);
    v5.remove(List.of("rope_theta", "partial_rotary_factor"));
    v5.set("rope_parameters", rope);
    assertEquals(rotary, read(v5).rotary());
  }

  @Test
  void gemmasShiftScaleAndCap() throws IOException {
    ModelConfig one = read(golden("gemma"));
    assertEquals(1, one.norms().weightShift());
    assertEquals(Math.sqrt(48), one.ends().embeddingScale());
    assertEquals(one, read(golden("gemma").put("hidden_act", "gelu")));
    ModelConfig two = read(golden("gemma2"));
    assertEquals(Activation.GELU_TANH, two.feedForward().activation());
    assertTrue(two.norms().after());
    assertEquals(1 / Math.sqrt(24), two.attention().scale(), 1e-7);
    assertEquals(4, two.attention().softCap());
    assertEquals(6, two.ends().logitSoftCap());
    ObjectNode bare = golden("gemma2").putNull("attn_logit_softcapping");
    assertEquals(0, read(bare).attention().softCap());
    ObjectNode silent = golden("gemma2");
    silent.remove(List.of("tie_word_embeddings", "hidden_act", "hidden_activation"));
    assertEquals(two, read(silent));
    assertEquals(two, read(golden("gemma2").put("sliding_window_size", 8)));
  }

  @ParameterizedTest
  @CsvSource(
      delimiter = '|',
      quoteCharacter = '`',
      value = {
        "mistral | sliding_window | `` | is absent",
        "mistral | layer_types | [\"full_attention\"] | not known",
        "mistral | num_key_value_heads | `` | is absent",
        "mistral | num_local_experts | 8 | not known",
        "mistral | attention_bias | true | not known",
        "mistral | partial_rotary_factor | 0.5 | whole",
        "qwen2 | layer_types | [\"full_attention\"] | names 1 layers of 3",
        "qwen2 | layer_types | [\"full_attention\",\"chunked_attention\",\"full_attention\"] |"
            + " chunked",
        "qwen2 | max_window_layers | `` | layer_types",
        "qwen2 | max_window_layers | -1 | 0 or more",
        "qwen2 | sliding_window | null | use_sliding_window is true",
        "qwen2 | use_mrope | true | Qwen2-VL",
        "qwen3 | use_sliding_window | false | no sliding_window is in use",
        "qwen3 | attention_sinks | true | not known",
        "qwen3 | num_experts | 8 | not known",
        "mistral | rope_theta | `` | is absent",
        "phi | qk_layernorm | true | only false",
        "phi | resid_pdrop | 0.1 | set it to 0",
        "phi | layer_norm_eps | `` | is absent",
        "phi | partial_rotary_factor | 1.5 | at most 1",
        "phi | partial_rotary_factor | 0.4 | must be even",
        "phi | rms_norm_eps | 1e-6 | not known",
        "phi3 | lm_head_bias | true | only false",
        "phi3 | full_attn_mod | 2 | must be 1.0",
        "phi3 | original_max_position_embeddings | `` | is absent",
        "phi3 | rope_scaling | {\"type\":\"linear\",\"factor\":2} | longrope",
        "phi3 | rope_scaling | {\"type\":\"longrope\",\"short_factor\":[1],\"long_factor\":[1]} | 3"
            + " short",
        "phi3 | rope_scaling | {\"type\":\"longrope\",\"short_factor\":[1,1,1]} | long_factor",
        "gemma | hidden_act | \"silu\" | gelu_pytorch_tanh",
        "gemma | hidden_activation | \"gelu\" | gelu_pytorch_tanh",
        "gemma | use_bidirectional_attention | true | only false",
        "gemma2 | query_pre_attn_scalar | `` | is absent",
        "gemma2 | final_logit_softcapping | `` | is absent",
        "gemma2 | attn_logit_softcapping | -1 | positive",
        "gemma2 | sliding_window | `` | is absent",
        "gemma2 | sliding_window_size | 4 | disagree",
        "gemma2 | hidden_act | \"silu\" | disagree",
        "gemma2 | quantization_config | {\"bits\":4} | not known",
      })
  void refusesWhatItWouldComputeOtherwise(String family, String key, String value, String words)
      throws IOException {
    ObjectNode json = golden(family);
    if (value.isEmpty()) {
      json.remove(key);
    } else {
      json.set(key, new ObjectMapper().readTree(value));
    }
    String message = assertThrows(UserException.class, () -> read(json)).getMessage();
    assertTrue(message.startsWith(dir.resolve("config.json") + ": key '"), message);
    assertTrue(message.contains(words), message);
    String named = message.substring(message.indexOf('\''), message.indexOf("' "));
    assertTrue(
        named.contains(key)
            || key.equals("use_sliding_window")
            || key.equals("partial_rotary_factor"),
        message);
  }
}
