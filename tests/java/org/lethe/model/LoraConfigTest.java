package org.lethe.model;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.function.Executable;
import org.lethe.UserException;

/** Names of other families than Llama: fused projections, dense, fc1, fc2. */
class LoraConfigTest {
  private static final List<String> PHI =
      List.of(
          "model.layers.0.self_attn.qkv_proj",
          "model.layers.0.self_attn.dense",
          "model.layers.0.mlp.fc1",
          "model.layers.0.mlp.fc2",
          "model.layers.1.self_attn.qkv_proj",
          "model.layers.1.self_attn.dense",
          "model.layers.1.mlp.fc1",
          "model.layers.1.mlp.fc2");

  private static LoraTargets targets(List<String> names, List<Integer> layers) {
    return new LoraTargets(
        names, Optional.empty(), List.of("fc2"), Optional.empty(), layers, List.of());
  }

  private static LoraConfig config(
      LoraTargets targets, Map<String, Integer> ranks, Map<String, Double> alphas) {
    return new LoraConfig(4, 8, false, 0, targets, ranks, alphas);
  }

  @Test
  void allAreAllTheModelHas() {
    assertEquals(PHI, List.copyOf(LoraConfig.all(4, 8).resolve(PHI).keySet()));
    assertEquals(
        List.of(
            "model.layers.1.self_attn.qkv_proj",
            "model.layers.1.self_attn.dense",
            "model.layers.1.mlp.fc1"),
        List.copyOf(
            config(targets(List.of(), List.of(1)), Map.of(), Map.of()).resolve(PHI).keySet()));
  }

  @Test
  void aNameIsTheEndBehindADotOrTheWholeAndTheWholeKnowsNoLayers() {
    LoraTargets named = targets(List.of("fc1", "model.layers.0.self_attn.dense"), List.of(1));
    assertEquals(
        List.of("model.layers.0.self_attn.dense", "model.layers.1.mlp.fc1"), named.among(PHI));
    assertEquals(List.of("c1"), LoraTargets.named(List.of("c1", "mlp.fc1")).unknownAmong(PHI));
  }

  @Test
  void theFirstPatternInOrderCounts() {
    Map<String, Integer> ranks = new LinkedHashMap<>();
    ranks.put("layers\\.1\\.mlp\\.fc1", 1);
    ranks.put("fc1", 2);
    ranks.put("mlp..*", 3);
    ranks.put("c1", 9);
    Map<String, LoraConfig.Adapter> adapters =
        config(LoraTargets.ALL, ranks, Map.of("dense", 2.0)).resolve(PHI);
    assertEquals(new LoraConfig.Adapter(2, 4), adapters.get("model.layers.0.mlp.fc1"));
    assertEquals(new LoraConfig.Adapter(1, 8), adapters.get("model.layers.1.mlp.fc1"));
    assertEquals(new LoraConfig.Adapter(3, 8.0 / 3), adapters.get("model.layers.1.mlp.fc2"));
    assertEquals(new LoraConfig.Adapter(4, 0.5), adapters.get("model.layers.0.self_attn.dense"));
    assertEquals(new LoraConfig.Adapter(4, 2), adapters.get("model.layers.0.self_attn.qkv_proj"));
  }

  @Test
  void stabilisedScalesDivideByTheRootOfTheirOwnRank() {
    LoraConfig config =
        new LoraConfig(4, 8, true, 0, LoraTargets.ALL, Map.of("fc1", 9), Map.of("fc2", 3.0));
    Map<String, LoraConfig.Adapter> adapters = config.resolve(PHI);
    assertEquals(4, adapters.get("model.layers.0.self_attn.dense").scale());
    assertEquals(8 / 3.0, adapters.get("model.layers.0.mlp.fc1").scale(), 1e-15);
    assertEquals(1.5, adapters.get("model.layers.0.mlp.fc2").scale());
  }

  @Test
  void whatFindsNothingIsNamedWithWhatThereIs() {
    assertRefused(
        "[q_proj] name no linear module of this model; name some of [qkv_proj, dense, fc1, fc2]",
        () -> new LoraConfig(4, 8, List.of("q_proj", "fc1")).resolve(PHI));
    assertRefused(
        "'q_proj' name no linear module",
        () -> config(LoraTargets.matching("q_proj"), Map.of(), Map.of()).resolve(PHI));
    assertRefused(
        "(all) in layers [2] without [fc2]",
        () -> config(targets(List.of(), List.of(2)), Map.of(), Map.of()).resolve(PHI));
    assertRefused(
        "'q_proj' of lora.rank_pattern",
        () -> config(LoraTargets.ALL, Map.of("q_proj", 2), Map.of()).requireAllUsed(PHI));
    assertRefused(
        "lora.layers names layer 7",
        () ->
            config(targets(List.of("fc1"), List.of(0, 7)), Map.of(), Map.of()).requireAllUsed(PHI));
  }

  @Test
  void impossibleSizesAreNamed() {
    assertRefused("lora.rank is 0", () -> LoraConfig.all(0, 8));
    assertRefused("lora.alpha is NaN", () -> LoraConfig.all(1, Double.NaN));
    assertRefused(
        "lora.dropout is 1.0",
        () -> new LoraConfig(1, 1, false, 1, LoraTargets.ALL, Map.of(), Map.of()));
    assertRefused(
        "lora.rank_pattern 'fc1' is 0", () -> config(LoraTargets.ALL, Map.of("fc1", 0), Map.of()));
    assertRefused(
        "lora.alpha_pattern '(' : the pattern".replace("' :", "':"),
        () -> config(LoraTargets.ALL, Map.of(), Map.of("(", 2.0)));
    assertRefused("names no module", () -> new LoraConfig(1, 1, List.of()));
    assertRefused(
        "give one of them",
        () ->
            new LoraTargets(
                List.of("a"), Optional.of("b"), List.of(), Optional.empty(), List.of(), List.of()));
  }

  private static void assertRefused(String part, Executable action) {
    String message = assertThrows(UserException.class, action).getMessage();
    assertTrue(message.contains(part), message);
  }
}
