package org.lethe.checkpoint;

import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.node.JsonNodeFactory;
import com.fasterxml.jackson.databind.node.ObjectNode;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.OptionalInt;
import org.lethe.UserException;
import org.lethe.model.ModelConfig;
import org.lethe.model.families.CommonKeys;
import org.lethe.model.families.Families;
import org.lethe.model.families.Family;

/**
 * Reads and writes Hugging Face's {@code config.json}. Reading is strict: every key is either
 * understood, known to leave the mathematics alone, or an error; nothing that changes the
 * mathematics is ever assumed. Both spellings that transformers 4 and 5 use for the type of the
 * weights and for rotary embeddings are read. What the keys of a family mean says {@link Families}.
 */
public final class HuggingFaceConfig {
  /** Name of the file in a model directory. */
  public static final String FILE = "config.json";

  /** Name of the file that holds generation settings. */
  public static final String GENERATION_FILE = "generation_config.json";

  private static final Map<String, StoredDtype> DTYPES =
      Map.of("float32", StoredDtype.F32, "bfloat16", StoredDtype.BF16, "float16", StoredDtype.F16);

  /** Keys that may stand only with the value that switches them off. */
  private static final List<String> MUST_BE_FALSE =
      List.of("add_cross_attention", "is_decoder", "is_encoder_decoder", "rope_interleaved");

  private HuggingFaceConfig() {}

  /**
   * Reads a config file.
   *
   * @param file the {@code config.json}
   * @throws UserException naming file and key, if the architecture is unknown, a key is missing,
   *     unknown or out of range, or a feature is asked for that Lethe does not compute
   */
  public static ModelConfigFile read(Path file) {
    return parse(file, JsonFiles.text(file));
  }

  /**
   * The same of a text.
   *
   * @param file what messages call it
   */
  public static ModelConfigFile parse(Path file, String text) {
    JsonConfigKeys keys = new JsonConfigKeys(file, JsonFiles.parse(file, text));
    Family family = family(keys);
    MUST_BE_FALSE.forEach(key -> keys.requireFalse(key, "it makes another kind of model"));
    ModelConfig model = family.reader().apply(keys);
    int vocabulary = model.vocabularySize();
    ModelConfigFile config =
        new ModelConfigFile(
            model,
            bosId(keys, vocabulary),
            ids(keys, "eos_token_id", vocabulary),
            dtype(keys),
            QuantizationConfig.take(keys).isEmpty() ? text : plain(file, text));
    keys.ignore(CommonKeys.HARMLESS);
    keys.ignore(family.harmless());
    keys.refuseRest();
    return config;
  }

  /** Whoever writes such a model again has dequantised it. */
  private static String plain(Path file, String text) {
    ObjectNode node = JsonFiles.parse(file, text);
    node.remove(QuantizationConfig.KEY);
    return JsonFiles.write(node);
  }

  /**
   * The text of a config for weights of a type: as it was when it says that type already, else with
   * that changed, in the spellings it has, and every other key kept.
   */
  public static String configJson(ModelConfigFile config, StoredDtype dtype) {
    String name = dtypeName(dtype);
    if (config.dtype().equals(Optional.of(dtype))) {
      return config.json();
    }
    ObjectNode node = JsonFiles.parseObject(config.json());
    if (node.has("dtype")) {
      node.put("dtype", name);
    }
    if (node.has("torch_dtype") || !node.has("dtype")) {
      node.put("torch_dtype", name);
    }
    return JsonFiles.write(node);
  }

  /** The config of a new Llama, as transformers 4 and 5 load it into a {@code LlamaForCausalLM}. */
  public static ModelConfigFile ofLlama(ModelConfig config, int bosId, int eosId) {
    ObjectNode node = JsonNodeFactory.instance.objectNode();
    node.putArray("architectures").add("LlamaForCausalLM");
    node.put("attention_bias", false)
        .put("attention_dropout", 0.0)
        .put("bos_token_id", bosId)
        .put("eos_token_id", eosId)
        .put("head_dim", config.headDim())
        .put("hidden_act", "silu")
        .put("hidden_size", config.hiddenSize())
        .put("initializer_range", 0.02)
        .put("intermediate_size", config.feedForwardSize())
        .put("max_position_embeddings", config.contextLength())
        .put("mlp_bias", false)
        .put("model_type", "llama")
        .put("num_attention_heads", config.heads())
        .put("num_hidden_layers", config.layers())
        .put("num_key_value_heads", config.kvHeads())
        .put("pretraining_tp", 1)
        // The shortest decimal that names the fp32 value: 1e-5f widened would read 9.99999974e-06.
        .put("rms_norm_eps", Double.parseDouble(Float.toString(config.norms().eps())));
    // transformers 5 reads rope_parameters, 4 reads rope_theta.
    node.putObject("rope_parameters")
        .put("rope_theta", config.rotary().theta())
        .put("rope_type", "default");
    node.put("rope_theta", config.rotary().theta())
        .put("tie_word_embeddings", config.tiedHead())
        .put("use_cache", true)
        .put("vocab_size", config.vocabularySize());
    return new ModelConfigFile(
        config, OptionalInt.of(bosId), List.of(eosId), Optional.empty(), JsonFiles.write(node));
  }

  /** {@code generation_config.json}: the special tokens that end and begin a generation. */
  public static String generationConfigJson(ModelConfigFile config) {
    ObjectNode node = JsonNodeFactory.instance.objectNode();
    config
        .bosId()
        .ifPresentOrElse(id -> node.put("bos_token_id", id), () -> node.putNull("bos_token_id"));
    switch (config.eosIds().size()) {
      case 0 -> node.putNull("eos_token_id");
      case 1 -> node.put("eos_token_id", config.eosIds().get(0));
      default -> config.eosIds().forEach(node.putArray("eos_token_id")::add);
    }
    return JsonFiles.write(node);
  }

  /** How config.json spells a type. */
  static String dtypeName(StoredDtype dtype) {
    for (Map.Entry<String, StoredDtype> entry : DTYPES.entrySet()) {
      if (entry.getValue() == dtype) {
        return entry.getKey();
      }
    }
    throw new UserException(
        "a model cannot be saved in " + dtype + "; choose one of " + DTYPES.values());
  }

  private static Family family(JsonConfigKeys keys) {
    JsonNode type = keys.take("model_type");
    Family family =
        Families.of(type == null ? "" : type.asText())
            .orElseThrow(
                () ->
                    keys.error(
                        "model_type",
                        (type == null ? "is absent" : "is " + type)
                            + "; Lethe knows "
                            + Families.names()
                            + ", convert the model or choose another"));
    JsonNode architectures = keys.take("architectures");
    if (architectures != null
        && (architectures.size() != 1
            || !architectures.path(0).asText().equals(family.architecture()))) {
      throw keys.error(
          "architectures",
          "is "
              + architectures
              + "; Lethe knows "
              + family.architecture()
              + " for this model_type, choose such a model");
    }
    return family;
  }

  private static OptionalInt bosId(JsonConfigKeys keys, int vocabulary) {
    List<Integer> ids = ids(keys, "bos_token_id", vocabulary);
    if (ids.size() > 1) {
      throw keys.error("bos_token_id", "must be one token; check the file");
    }
    return ids.isEmpty() ? OptionalInt.empty() : OptionalInt.of(ids.get(0));
  }

  private static List<Integer> ids(JsonConfigKeys keys, String key, int vocabulary) {
    JsonNode node = keys.take(key);
    List<Integer> ids = new ArrayList<>();
    if (node != null) {
      for (JsonNode id : node.isArray() ? node : List.of(node)) {
        if (!id.isInt() || id.intValue() < 0 || id.intValue() >= vocabulary) {
          throw keys.error(key, "must name tokens below vocab_size, " + vocabulary);
        }
        ids.add(id.intValue());
      }
    }
    return List.copyOf(ids);
  }

  private static Optional<StoredDtype> dtype(JsonConfigKeys keys) {
    Optional<StoredDtype> dtype = Optional.empty();
    for (String key : List.of("dtype", "torch_dtype")) {
      JsonNode node = keys.take(key);
      if (node != null) {
        StoredDtype named = DTYPES.get(node.asText());
        if (named == null) {
          throw keys.error(key, "is " + node + "; Lethe reads " + DTYPES.keySet());
        }
        if (dtype.isPresent() && dtype.get() != named) {
          throw keys.error("torch_dtype", "and 'dtype' disagree; keep the right one");
        }
        dtype = Optional.of(named);
      }
    }
    return dtype;
  }
}
