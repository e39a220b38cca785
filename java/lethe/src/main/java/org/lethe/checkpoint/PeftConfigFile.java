package org.lethe.checkpoint;

import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.node.ArrayNode;
import com.fasterxml.jackson.databind.node.JsonNodeFactory;
import com.fasterxml.jackson.databind.node.ObjectNode;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Locale;
import java.util.Map;
import java.util.Optional;
import java.util.Set;
import org.lethe.UserException;
import org.lethe.model.LoraConfig;
import org.lethe.model.LoraTargets;

/**
 * {@code adapter_config.json}, in and out, as PEFT 0.21 writes and reads it (huggingface/peft,
 * {@code src/peft/tuners/lora/config.py}). Every key is understood, kept because it changes
 * nothing, or an error that says what to do.
 */
final class PeftConfigFile {
  private static final String ALL_LINEAR = "all-linear";
  private static final JsonNodeFactory JSON = JsonNodeFactory.instance;

  private static final String MERGE =
      "merge the adapter into its base with PEFT (merge_and_unload) and give the merged model";
  private static final String RETRAIN = "train the adapter anew as plain LoRA";

  /** Keys that change nothing in what a trained adapter computes, with what Lethe writes. */
  private static final Map<String, JsonNode> KEPT =
      Map.of(
          "auto_mapping", JSON.nullNode(),
          "inference_mode", JSON.booleanNode(true),
          "init_lora_weights", JSON.booleanNode(true),
          "revision", JSON.nullNode(),
          "task_type", JSON.textNode("CAUSAL_LM"));

  /** The same, not written unless they were read. */
  private static final List<String> KEPT_IF_READ =
      List.of(
          "ensure_weight_tying",
          "megatron_core",
          "peft_version",
          "qalora_group_size",
          "runtime_config");

  /** Settings of ways to initialise that PEFT ignores when A and B begin otherwise. */
  private static final List<String> OF_INITIALISERS =
      List.of("corda_config", "eva_config", "loftq_config", "lora_ga_config");

  /** Initialisers that leave the base model's weights alone. */
  private static final Set<String> PLAIN_INITIALISERS = Set.of("gaussian", "eva", "orthogonal");

  /** What a switched-on feature is, and the way out. */
  private static final Map<String, String> FEATURES =
      Map.ofEntries(
          Map.entry("use_dora", "DoRA's trained magnitudes; " + MERGE),
          Map.entry("modules_to_save", "modules that were trained whole; " + MERGE),
          Map.entry("trainable_token_indices", "trained rows of the embedding; " + MERGE),
          Map.entry("target_parameters", "adapters on bare parameters; " + MERGE),
          Map.entry("lora_bias", "trained biases of B; " + MERGE),
          Map.entry("layer_replication", "repeated layers; " + MERGE),
          Map.entry("use_bdlora", "block-diagonal factors; " + MERGE),
          Map.entry("kasa_config", "a base without its smallest components; " + MERGE),
          Map.entry("use_qalora", "pooled inputs for a quantised base; " + RETRAIN),
          Map.entry("monteclora_config", "sampled adapters; " + RETRAIN),
          Map.entry("arrow_config", "routing between adapters; " + RETRAIN),
          Map.entry(
              "alora_invocation_tokens",
              "an adapter that acts only behind certain tokens; " + RETRAIN),
          Map.entry("velora_config", "compressed activations in training; " + RETRAIN),
          Map.entry("megatron_config", "Megatron's parallel layers; save it by PEFT alone"),
          Map.entry(
              "fan_in_fan_out",
              "transposed weights, which none of Lethe's model families has; take the adapter's"
                  + " own base family"));

  private PeftConfigFile() {}

  /**
   * Reads a configuration.
   *
   * @throws UserException naming the file, the key and the way out
   */
  static PeftConfig read(Path file) {
    return read(file, JsonFiles.readObject(file));
  }

  /**
   * Reads a configuration that stands in another file.
   *
   * @param file for messages
   */
  static PeftConfig read(Path file, ObjectNode root) {
    StrictJson json = new StrictJson(file, root);
    JsonNode type = json.take("peft_type");
    if (type == null || !type.asText().equals("LORA")) {
      throw json.error(
          "peft_type",
          (type == null ? "is absent" : "is " + type)
              + "; Lethe reads LORA; for another kind "
              + MERGE);
    }
    JsonNode bias = json.take("bias");
    if (bias != null && !bias.asText().equals("none")) {
      throw json.error("bias", "is " + bias + ", trained biases; " + MERGE);
    }
    Map<String, JsonNode> others = others(json);
    JsonNode base = json.take("base_model_name_or_path");
    PeftConfig config = new PeftConfig(base == null ? "" : base.asText(), lora(json), others);
    requireOff(json);
    return config;
  }

  private static LoraConfig lora(StrictJson json) {
    int rank = json.positiveInt("r");
    double alpha = json.positiveDouble("lora_alpha");
    JsonNode dropout = json.take("lora_dropout");
    double probability = dropout == null ? 0 : dropout.doubleValue();
    if (dropout != null && (!dropout.isNumber() || !(probability >= 0 && probability < 1))) {
      throw json.error("lora_dropout", "is " + dropout + "; it must lie in [0, 1)");
    }
    JsonNode stabilised = json.take("use_rslora");
    if (stabilised != null && !stabilised.isBoolean()) {
      throw json.error("use_rslora", "is " + stabilised + "; it must be true or false");
    }
    Map<String, Integer> ranks = new LinkedHashMap<>();
    pattern(json, "rank_pattern")
        .forEach(
            (key, value) -> {
              if (!value.isInt() || value.intValue() <= 0) {
                throw json.error(
                    "rank_pattern",
                    "gives '" + key + "' the rank " + value + "; it must be a positive number");
              }
              ranks.put(key, value.intValue());
            });
    Map<String, Double> alphas = new LinkedHashMap<>();
    pattern(json, "alpha_pattern")
        .forEach((key, value) -> alphas.put(key, json.positive("alpha_pattern", value)));
    LoraTargets targets = targets(json);
    try {
      return new LoraConfig(
          rank,
          alpha,
          stabilised != null && stabilised.booleanValue(),
          probability,
          targets,
          ranks,
          alphas);
    } catch (UserException e) {
      throw json.error("rank_pattern", "or alpha_pattern: " + e.getMessage());
    }
  }

  private static Map<String, JsonNode> pattern(StrictJson json, String key) {
    JsonNode node = json.take(key);
    Map<String, JsonNode> entries = new LinkedHashMap<>();
    if (node != null && !node.isObject()) {
      throw json.error(key, "is " + node + "; it must map module names to numbers");
    }
    if (node != null) {
      node.properties().forEach(e -> entries.put(e.getKey(), e.getValue()));
    }
    return entries;
  }

  private static LoraTargets targets(StrictJson json) {
    JsonNode target = json.take("target_modules");
    JsonNode excluded = json.take("exclude_modules");
    List<Integer> layers = layers(json);
    List<String> pattern = texts(json, "layers_pattern", json.take("layers_pattern"), true);
    boolean isText = target != null && target.isTextual();
    boolean all = isText && target.asText().toLowerCase(Locale.ROOT).equals(ALL_LINEAR);
    List<String> names = isText ? List.of() : texts(json, "target_modules", target, false);
    if (!isText && names.isEmpty()) {
      throw json.error(
          "target_modules", "is " + target + "; it must name modules, as a list or a pattern");
    }
    if (isText && !(layers.isEmpty() && pattern.isEmpty())) {
      throw json.error(
          "layers_to_transform",
          "stands beside a target_modules that is a text, which PEFT refuses; list the modules");
    }
    boolean excludes = excluded != null && excluded.isTextual();
    LoraTargets targets;
    try {
      targets =
          new LoraTargets(
              names,
              isText && !all ? Optional.of(target.asText()) : Optional.empty(),
              excludes ? List.of() : texts(json, "exclude_modules", excluded, false),
              excludes ? Optional.of(excluded.asText()) : Optional.empty(),
              layers,
              pattern);
    } catch (UserException e) {
      throw json.error("target_modules", "cannot be used: " + e.getMessage());
    }
    List<String> ends =
        targets.isAll() ? List.of() : targets.among(List.of("lm_head", "model.embed_tokens"));
    if (!ends.isEmpty()) {
      throw json.error(
          "target_modules", "adapts " + ends.get(0) + ", which Lethe does not; " + MERGE);
    }
    return targets;
  }

  private static List<Integer> layers(StrictJson json) {
    JsonNode node = json.take("layers_to_transform");
    List<Integer> layers = new ArrayList<>();
    if (node != null && node.isInt()) {
      layers.add(node.intValue());
    } else if (node != null && node.isArray()) {
      node.forEach(layer -> layers.add(layer.isInt() ? layer.intValue() : -1));
    }
    if (layers.stream().anyMatch(layer -> layer < 0)
        || (node != null && !node.isInt() && !node.isArray())) {
      throw json.error("layers_to_transform", "is " + node + "; it must list layers from 0 on");
    }
    return layers;
  }

  /** The texts of a list; of one text, too, where that is a list of one. */
  private static List<String> texts(
      StrictJson json, String key, JsonNode node, boolean oneStandsForAList) {
    List<String> texts = new ArrayList<>();
    if (node == null) {
      return texts;
    }
    if (node.isTextual() && oneStandsForAList) {
      return node.asText().isEmpty() ? texts : List.of(node.asText());
    }
    for (JsonNode item : node.isArray() ? node : JSON.arrayNode().add(JSON.nullNode())) {
      if (!item.isTextual()) {
        throw json.error(key, "is " + node + "; it must list module names");
      }
      texts.add(item.asText());
    }
    return texts;
  }

  private static Map<String, JsonNode> others(StrictJson json) {
    Map<String, JsonNode> others = new LinkedHashMap<>();
    JsonNode task = json.rest().get("task_type");
    if (task != null && !task.isNull() && !task.asText().equals("CAUSAL_LM")) {
      throw json.error(
          "task_type", "is " + task + "; Lethe reads adapters of CAUSAL_LM; give such a one");
    }
    JsonNode init = json.rest().get("init_lora_weights");
    boolean plain =
        init == null
            || init.isNull()
            || init.isBoolean()
            || PLAIN_INITIALISERS.contains(init.asText());
    if (!plain) {
      throw json.error(
          "init_lora_weights",
          "is "
              + init
              + ", which also changes the base model or what trains; save the adapter as plain LoRA"
              + " (PEFT's path_initial_model_for_weight_conversion)");
    }
    KEPT.forEach(
        (key, written) -> {
          JsonNode value = json.rest().remove(key);
          if (value != null && !value.equals(written)) {
            others.put(key, value);
          }
        });
    for (List<String> keys : List.of(KEPT_IF_READ, OF_INITIALISERS)) {
      for (String key : keys) {
        JsonNode value = json.rest().remove(key);
        if (value != null && !isOff(value)) {
          others.put(key, value);
        }
      }
    }
    return others;
  }

  /** PEFT writes a null, false or empty value for every feature that is not used. */
  private static void requireOff(StrictJson json) {
    for (Map.Entry<String, JsonNode> entry : json.rest().properties()) {
      if (!isOff(entry.getValue())) {
        String feature =
            FEATURES.getOrDefault(
                entry.getKey(), "a feature that Lethe does not know; " + RETRAIN + ", or " + MERGE);
        throw json.error(entry.getKey(), "is " + entry.getValue() + ": " + feature);
      }
    }
  }

  private static boolean isOff(JsonNode value) {
    return value.isNull()
        || (value.isBoolean() && !value.booleanValue())
        || (value.isContainerNode() && value.isEmpty());
  }

  /** The document that PEFT loads. */
  static ObjectNode json(PeftConfig config) {
    LoraConfig lora = config.lora();
    LoraTargets targets = lora.targets();
    Map<String, JsonNode> keys = new LinkedHashMap<>(KEPT);
    keys.putAll(config.others());
    keys.put("peft_type", JSON.textNode("LORA"));
    keys.put(
        "base_model_name_or_path",
        config.baseModel().isEmpty() ? JSON.nullNode() : JSON.textNode(config.baseModel()));
    keys.put("bias", JSON.textNode("none"));
    keys.put("fan_in_fan_out", JSON.booleanNode(false));
    keys.put("modules_to_save", JSON.nullNode());
    keys.put("use_dora", JSON.booleanNode(false));
    keys.put("r", JSON.numberNode(lora.rank()));
    keys.put("lora_alpha", number(lora.alpha()));
    keys.put("lora_dropout", JSON.numberNode(lora.dropout()));
    keys.put("use_rslora", JSON.booleanNode(lora.rankStabilized()));
    ObjectNode ranks = JSON.objectNode();
    lora.rankPattern().forEach((key, rank) -> ranks.put(key, rank));
    keys.put("rank_pattern", ranks);
    ObjectNode alphas = JSON.objectNode();
    lora.alphaPattern().forEach((key, alpha) -> alphas.set(key, number(alpha)));
    keys.put("alpha_pattern", alphas);
    keys.put(
        "target_modules",
        targets.isAll() ? JSON.textNode(ALL_LINEAR) : either(targets.regex(), targets.names()));
    keys.put("exclude_modules", either(targets.excludedRegex(), targets.excludedNames()));
    ArrayNode layers = JSON.arrayNode();
    targets.layers().forEach(layers::add);
    keys.put("layers_to_transform", layers.isEmpty() ? JSON.nullNode() : layers);
    keys.put("layers_pattern", either(Optional.empty(), targets.layersPattern()));
    ObjectNode node = JSON.objectNode();
    keys.keySet().stream().sorted().forEach(key -> node.set(key, keys.get(key)));
    return node;
  }

  private static JsonNode either(Optional<String> regex, List<String> names) {
    if (regex.isPresent()) {
      return JSON.textNode(regex.get());
    }
    ArrayNode list = JSON.arrayNode();
    names.forEach(list::add);
    return list.isEmpty() ? JSON.nullNode() : list;
  }

  /** PEFT's alphas are whole numbers by type: one that is whole is written as such. */
  private static JsonNode number(double value) {
    boolean whole = value == StrictMath.rint(value) && value <= Integer.MAX_VALUE;
    return whole ? JSON.numberNode((int) value) : JSON.numberNode(value);
  }
}
