package org.lethe.checkpoint;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import com.fasterxml.jackson.databind.ObjectMapper;
import com.fasterxml.jackson.databind.node.ObjectNode;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.Set;
import java.util.TreeMap;
import java.util.stream.Collectors;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;
import org.lethe.UserException;
import org.lethe.model.Goldens;
import org.lethe.model.LoraConfig;
import org.lethe.model.LoraTargets;

class PeftAdapterTest {
  private static final double SCALE_TOLERANCE = 1e-15;

  private static final PeftConfig CONFIG = config(false, "q_proj", "down_proj");

  private static final Map<String, LinearShape> LINEARS =
      Map.of(
          "model.layers.0.self_attn.q_proj", new LinearShape(4, 3),
          "model.layers.0.self_attn.k_proj", new LinearShape(2, 3),
          "model.layers.0.mlp.down_proj", new LinearShape(3, 5));

  /** The keys PEFT 0.21 writes, most of them to say that a feature is off. */
  private static final String PEFT =
      """
      {"alora_invocation_tokens": null, "alpha_pattern": {}, "arrow_config": null,
       "auto_mapping": null, "base_model_name_or_path": "base", "bias": "none",
       "corda_config": null, "ensure_weight_tying": false, "eva_config": null,
       "exclude_modules": null, "fan_in_fan_out": false, "inference_mode": true,
       "init_lora_weights": true, "kasa_config": null, "layer_replication": null,
       "layers_pattern": null, "layers_to_transform": null, "loftq_config": {}, "lora_alpha": 8,
       "lora_bias": false, "lora_dropout": 0.05, "lora_ga_config": null, "megatron_config": null,
       "megatron_core": "megatron.core", "modules_to_save": null, "monteclora_config": null,
       "peft_type": "LORA", "peft_version": "0.21.0", "qalora_group_size": 16, "r": 2,
       "rank_pattern": {}, "revision": null, "target_modules": ["q_proj", "down_proj"],
       "target_parameters": null, "task_type": "CAUSAL_LM", "trainable_token_indices": null,
       "use_bdlora": null, "use_dora": false, "use_qalora": false, "use_rslora": false,
       "velora_config": null}
      """;

  @TempDir Path dir;

  private static PeftConfig config(boolean stabilised, String... targets) {
    LoraTargets named = LoraTargets.named(List.of(targets));
    return new PeftConfig(
        "base", new LoraConfig(2, 8, stabilised, 0.05, named, Map.of(), Map.of()));
  }

  private Path write(PeftConfig config, StoredDtype dtype) {
    Path target = dir.resolve("adapter");
    OutputDirectory.write(
        target,
        true,
        PeftAdapter.fileBytes(config, LINEARS, name -> dtype),
        out ->
            PeftAdapter.write(
                out,
                config,
                LINEARS,
                name -> dtype,
                (name, first, into) -> {
                  for (int i = 0; i < into.limit(); i++) {
                    into.put(i, (float) ((name.contains("lora_A") ? 1 : -1) * (first + i)));
                  }
                }));
    return target;
  }

  @Test
  void writesWhatItReads() throws IOException {
    for (StoredDtype dtype : List.of(StoredDtype.F32, StoredDtype.BF16, StoredDtype.F16)) {
      Path target = write(CONFIG, dtype);
      assertEquals(
          PeftAdapter.fileBytes(CONFIG, LINEARS, name -> dtype),
          Files.size(target.resolve(PeftAdapter.CONFIG_FILE))
              + Files.size(target.resolve(PeftAdapter.WEIGHTS_FILE)));
      Map<String, List<Float>> read = new TreeMap<>();
      try (PeftAdapter adapter = PeftAdapter.open(target, LINEARS)) {
        assertEquals(CONFIG, adapter.config());
        adapter.read(
            (name, first, values) -> {
              List<Float> all = read.computeIfAbsent(name, n -> new ArrayList<>());
              assertEquals(first, all.size());
              while (values.hasRemaining()) {
                all.add(values.get());
              }
            });
      }
      assertEquals(
          Map.of(
              "base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight", 6,
              "base_model.model.model.layers.0.self_attn.q_proj.lora_B.weight", 8,
              "base_model.model.model.layers.0.mlp.down_proj.lora_A.weight", 10,
              "base_model.model.model.layers.0.mlp.down_proj.lora_B.weight", 6),
          read.entrySet().stream()
              .collect(Collectors.toMap(Map.Entry::getKey, e -> e.getValue().size())));
      assertEquals(
          List.of(0f, -1f, -2f, -3f, -4f, -5f, -6f, -7f),
          read.get(PeftAdapter.tensorB("model.layers.0.self_attn.q_proj")));
    }
  }

  @Test
  void readsTheConfigurationPeftWrites() throws IOException {
    Path target = write(CONFIG, StoredDtype.F32);
    Files.writeString(target.resolve(PeftAdapter.CONFIG_FILE), PEFT);
    try (PeftAdapter adapter = PeftAdapter.open(target, LINEARS)) {
      assertEquals(CONFIG.lora(), adapter.config().lora());
      assertEquals(
          Set.of("megatron_core", "peft_version", "qalora_group_size"),
          adapter.config().others().keySet());
    }
  }

  @Test
  void scaleFollowsTheKind() {
    PeftConfig stabilised = config(true, "q_proj");
    try (PeftAdapter plain = PeftAdapter.open(write(CONFIG, StoredDtype.F32), LINEARS)) {
      assertEquals(4, plain.adapters().get("model.layers.0.mlp.down_proj").scale());
    }
    try (PeftAdapter adapter = PeftAdapter.open(write(stabilised, StoredDtype.F32), LINEARS)) {
      assertEquals(stabilised, adapter.config());
      assertEquals(
          8 / StrictMath.sqrt(2),
          adapter.adapters().get("model.layers.0.self_attn.q_proj").scale(),
          SCALE_TOLERANCE);
    }
  }

  @ParameterizedTest
  @CsvSource(
      delimiter = '|',
      quoteCharacter = '`',
      value = {
        "peft_type | \"IA3\" | merge_and_unload",
        "peft_type | null | is absent",
        "task_type | \"SEQ_CLS\" | CAUSAL_LM",
        "bias | \"all\" | merge_and_unload",
        "bias | \"lora_only\" | merge_and_unload",
        "use_dora | true | DoRA's trained magnitudes; merge the adapter",
        "lora_bias | true | merge_and_unload",
        "fan_in_fan_out | true | transposed weights",
        "modules_to_save | [\"lm_head\"] | modules that were trained whole; merge the adapter",
        "layer_replication | [[0,1]] | merge_and_unload",
        "trainable_token_indices | [1] | trained rows of the embedding",
        "target_parameters | [\"x\"] | merge_and_unload",
        "alora_invocation_tokens | [3] | train the adapter anew",
        "megatron_config | {\"a\":1} | Megatron",
        "arrow_config | {\"top_k\":3} | routing",
        "kasa_config | {\"beta\":1} | merge_and_unload",
        "use_qalora | true | quantised base",
        "use_bdlora | {\"nblocks\":2} | block-diagonal",
        "init_lora_weights | \"pissa\" | path_initial_model_for_weight_conversion",
        "init_lora_weights | \"pissa_niter_4\" | changes the base model",
        "init_lora_weights | \"olora\" | changes the base model",
        "init_lora_weights | \"corda\" | changes the base model",
        "init_lora_weights | \"loftq\" | changes the base model",
        "init_lora_weights | \"lora_ga\" | changes the base model",
        "a_feature_to_come | 0.5 | does not know",
        "r | 0 | positive whole number",
        "r | 2.5 | positive whole number",
        "r | 3 | rank 2",
        "rank_pattern | {\"q_proj\":4} | adapter_config.json says 4",
        "rank_pattern | {\"q_proj\":0} | positive",
        "rank_pattern | {\"q(proj\":2} | the pattern",
        "rank_pattern | [2] | map module names",
        "alpha_pattern | {\"q_proj\":0} | positive",
        "lora_alpha | 0 | positive",
        "lora_dropout | 1 | [0, 1)",
        "layers_to_transform | [-1] | from 0 on",
        "layers_to_transform | 1 | name some of",
        "layers_pattern | [\"layers\"] | needs the layers' numbers",
        "exclude_modules | \".*\" | name some of",
        "exclude_modules | [\"q_proj\"] | unexpected",
        "target_modules | [] | must name modules",
        "target_modules | [1] | must list module names",
        "target_modules | [\"w1\"] | [w1] name no linear module",
        "target_modules | [\"q_proj\",\"lm_head\"] | adapts lm_head",
        "target_modules | [\"q_proj\",\"embed_tokens\"] | adapts model.embed_tokens",
        "target_modules | \".*[dj]\" | adapts lm_head",
        "target_modules | \"q_proj\" | 'q_proj' name no linear module",
        "target_modules | \".*(?(1)q)_proj\" | the group (?(",
        "target_modules | \".*[q_proj\" | without its ]",
        "use_rslora | 1 | true or false",
      })
  void refusesWhatItWouldComputeOtherwise(String key, String value, String why) throws IOException {
    Path file = write(CONFIG, StoredDtype.F32).resolve(PeftAdapter.CONFIG_FILE);
    ObjectMapper mapper = new ObjectMapper();
    ObjectNode json = (ObjectNode) mapper.readTree(Files.readString(file));
    json.set(key, mapper.readTree(value));
    Files.writeString(file, json.toString());
    String message =
        assertThrows(UserException.class, () -> PeftAdapter.open(file.getParent(), LINEARS).close())
            .getMessage();
    assertTrue(message.startsWith(file.getParent().toString()), message);
    assertTrue(message.contains(why), message);
    if (!why.equals("rank 2") && !why.equals("unexpected") && !why.endsWith("says 4")) {
      assertTrue(message.contains(file + ": key '"), message);
    }
  }

  /** What PEFT writes beside plain LoRA and ignores when it reads it. */
  @ParameterizedTest
  @CsvSource(
      delimiter = '|',
      quoteCharacter = '`',
      value = {
        "init_lora_weights | \"gaussian\"",
        "init_lora_weights | \"orthogonal\"",
        "eva_config | {\"rho\":2.0}",
        "loftq_config | {\"loftq_bits\":4}",
        "revision | \"main\"",
        "auto_mapping | {\"base_model_class\":\"LlamaForCausalLM\"}",
        "ensure_weight_tying | true",
        "rank_pattern | {\"k_proj\":7}",
        "exclude_modules | [\"lm_head\"]",
        "a_feature_that_is_off | false",
        "another | {}",
      })
  void keepsWhatChangesNothing(String key, String value) throws IOException {
    Path file = write(CONFIG, StoredDtype.F32).resolve(PeftAdapter.CONFIG_FILE);
    ObjectMapper mapper = new ObjectMapper();
    ObjectNode json = (ObjectNode) mapper.readTree(Files.readString(file));
    json.set(key, mapper.readTree(value));
    Files.writeString(file, json.toString());
    Path again = dir.resolve("again");
    AdapterFiles.rewrite(file.getParent(), again, Optional.empty(), false);
    ObjectNode written =
        (ObjectNode) mapper.readTree(Files.readString(again.resolve(PeftAdapter.CONFIG_FILE)));
    if (!key.startsWith("a") || key.equals("auto_mapping")) {
      assertEquals(mapper.readTree(value), written.get(key));
    }
    assertEquals(mapper.readTree("[\"q_proj\", \"down_proj\"]"), written.get("target_modules"));
  }

  @Test
  void aPickleIsNamedWithItsRemedy() throws IOException {
    Path target = write(CONFIG, StoredDtype.F32);
    Files.move(target.resolve(PeftAdapter.WEIGHTS_FILE), target.resolve("adapter_model.bin"));
    String message =
        assertThrows(UserException.class, () -> PeftAdapter.open(target, LINEARS).close())
            .getMessage();
    assertTrue(message.contains("adapter_model.bin: is a Python pickle"), message);
    assertTrue(message.contains("safe_serialization=True"), message);
  }

  @Test
  void namesMissingAndUnexpectedTensors() throws IOException {
    Path target = write(CONFIG, StoredDtype.F32);
    Path file = target.resolve(PeftAdapter.CONFIG_FILE);
    String json = Files.readString(file);
    Files.writeString(file, json.replace("\"down_proj\"", "\"k_proj\""));
    String message =
        assertThrows(UserException.class, () -> PeftAdapter.open(target, LINEARS).close())
            .getMessage();
    assertTrue(
        message.contains("missing [" + PeftAdapter.tensorA("model.layers.0.self_attn.k_proj")),
        message);
    assertTrue(
        message.contains("unexpected [" + PeftAdapter.tensorA("model.layers.0.mlp.down_proj")),
        message);
    Files.writeString(file, json.replace("\"r\" : 2", "\"r\" : 3"));
    assertTrue(
        assertThrows(UserException.class, () -> PeftAdapter.open(target, LINEARS).close())
            .getMessage()
            .contains("[2, 5], which is rank 2; adapter_config.json says 3"));
  }

  @Test
  void aNamedAdapterLiesInItsSubFolder() {
    Path parent = Goldens.path("peft/named");
    assertEquals(List.of("forget"), AdapterFiles.named(parent));
    String message =
        assertThrows(UserException.class, () -> PeftAdapter.open(parent, LINEARS).close())
            .getMessage();
    assertTrue(message.contains("give one of these: " + parent.resolve("forget")), message);
    try (PeftAdapter adapter = PeftAdapter.open(parent.resolve("forget"))) {
      assertEquals(0.1, adapter.config().lora().dropout());
    }
  }

  @Test
  void anAdapterOfAnotherBaseIsNamedWithItsBase() {
    Path target = write(CONFIG, StoredDtype.F32);
    Map<String, LinearShape> wider = new TreeMap<>(LINEARS);
    wider.put("model.layers.0.mlp.down_proj", new LinearShape(4, 5));
    String message =
        assertThrows(UserException.class, () -> PeftAdapter.open(target, wider).close())
            .getMessage();
    assertTrue(
        message.contains("'" + PeftAdapter.tensorB("model.layers.0.mlp.down_proj")), message);
    assertTrue(message.contains("[3, 2] where the base model asks for [4, 2]"), message);
    assertTrue(message.contains("this one was made for base"), message);
  }

  @Test
  void refusesToWriteAnAdapterOfNothing() {
    PeftConfig nothing = config(false, "w1");
    assertTrue(
        assertThrows(UserException.class, () -> write(nothing, StoredDtype.F32))
            .getMessage()
            .contains("targets no module"));
    assertTrue(Files.notExists(dir.resolve("adapter")));
  }
}
