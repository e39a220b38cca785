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
import java.util.TreeMap;
import java.util.stream.Collectors;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;
import org.lethe.UserException;

class PeftAdapterTest {
  private static final double SCALE_TOLERANCE = 1e-15;

  private static final PeftConfig CONFIG =
      new PeftConfig("base", 2, 8, 0.05, List.of("q_proj", "down_proj"), false);

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

  private Path write(PeftConfig config, StoredDtype dtype) {
    Path target = dir.resolve("adapter");
    OutputDirectory.write(
        target,
        true,
        PeftAdapter.fileBytes(config, LINEARS, dtype),
        out ->
            PeftAdapter.write(
                out,
                config,
                LINEARS,
                dtype,
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
          PeftAdapter.fileBytes(CONFIG, LINEARS, dtype),
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
      assertEquals(CONFIG, adapter.config());
    }
  }

  @Test
  void scaleFollowsTheKind() {
    assertEquals(4, CONFIG.scale());
    PeftConfig stabilized = new PeftConfig("", 2, 8, 0, List.of("q_proj"), true);
    assertEquals(8 / StrictMath.sqrt(2), stabilized.scale(), SCALE_TOLERANCE);
    try (PeftAdapter adapter = PeftAdapter.open(write(stabilized, StoredDtype.F32), LINEARS)) {
      assertEquals(stabilized, adapter.config());
    }
  }

  @ParameterizedTest
  @CsvSource(
      delimiter = '|',
      quoteCharacter = '`',
      value = {
        "peft_type | \"IA3\"",
        "task_type | \"SEQ_CLS\"",
        "bias | \"all\"",
        "bias | null",
        "use_dora | true",
        "lora_bias | true",
        "fan_in_fan_out | true",
        "modules_to_save | [\"lm_head\"]",
        "rank_pattern | {\"q_proj\":4}",
        "alpha_pattern | {\"q_proj\":4}",
        "layers_to_transform | [0]",
        "layers_to_transform | 0",
        "exclude_modules | \"lm_head\"",
        "layer_replication | [[0,1]]",
        "trainable_token_indices | [1]",
        "target_parameters | [\"x\"]",
        "init_lora_weights | \"pissa\"",
        "a_feature_to_come | 0.5",
        "r | 0",
        "r | 2.5",
        "lora_alpha | 0",
        "lora_dropout | 1",
        "target_modules | \"all-linear\"",
        "target_modules | []",
        "target_modules | [1]",
        "target_modules | [\"w1\"]",
        "use_rslora | 1",
      })
  void refusesWhatItWouldComputeOtherwise(String key, String value) throws IOException {
    Path file = write(CONFIG, StoredDtype.F32).resolve(PeftAdapter.CONFIG_FILE);
    ObjectMapper mapper = new ObjectMapper();
    ObjectNode json = (ObjectNode) mapper.readTree(Files.readString(file));
    json.set(key, mapper.readTree(value));
    Files.writeString(file, json.toString());
    String message =
        assertThrows(UserException.class, () -> PeftAdapter.open(file.getParent(), LINEARS).close())
            .getMessage();
    assertTrue(message.contains(key), message);
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
            .contains("[2, 5] where [3, 5] is due"));
  }

  @Test
  void refusesToWriteAnAdapterOfNothing() {
    PeftConfig nothing = new PeftConfig("", 2, 8, 0, List.of("q_proj", "w1"), false);
    assertTrue(
        assertThrows(UserException.class, () -> write(nothing, StoredDtype.F32))
            .getMessage()
            .contains("[w1]"));
    assertTrue(Files.notExists(dir.resolve("adapter")));
  }
}
