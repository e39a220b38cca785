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
import java.util.Set;
import org.lethe.UserException;

/**
 * Reads and writes Hugging Face's {@code config.json}. Reading is strict: every key is either
 * understood, known to leave the mathematics alone, or an error; nothing that changes the
 * mathematics is ever assumed. Both spellings that transformers 4 and 5 use for the type of the
 * weights and for rotary embeddings are read.
 */
public final class HuggingFaceConfig {
  /** Name of the file in a model directory. */
  public static final String FILE = "config.json";

  /** Name of the file that holds generation settings. */
  public static final String GENERATION_FILE = "generation_config.json";

  private static final Map<String, String> ARCHITECTURES = Map.of("llama", "LlamaForCausalLM");

  private static final Map<String, StoredDtype> DTYPES =
      Map.of("float32", StoredDtype.F32, "bfloat16", StoredDtype.BF16, "float16", StoredDtype.F16);

  /** Keys that say nothing about what the forward pass of a Llama computes. */
  private static final Set<String> HARMLESS =
      Set.of(
          "_attn_implementation_autoset",
          "_name_or_path",
          "bad_words_ids",
          "begin_suppress_tokens",
          "chunk_size_feed_forward",
          "cross_attention_hidden_size",
          "decoder_start_token_id",
          "diversity_penalty",
          "do_sample",
          "early_stopping",
          "encoder_no_repeat_ngram_size",
          "exponential_decay_length_penalty",
          "finetuning_task",
          "forced_bos_token_id",
          "forced_eos_token_id",
          "id2label",
          "initializer_range",
          "is_llama_config",
          "label2id",
          "length_penalty",
          "max_length",
          "max_sequence_length",
          "min_length",
          "no_repeat_ngram_size",
          "num_beam_groups",
          "num_beams",
          "num_return_sequences",
          "output_attentions",
          "output_hidden_states",
          "output_scores",
          "pad_token_id",
          "prefix",
          "pretraining_tp",
          "problem_type",
          "remove_invalid_values",
          "repetition_penalty",
          "return_dict",
          "return_dict_in_generate",
          "sep_token_id",
          "suppress_tokens",
          "task_specific_params",
          "temperature",
          "tf_legacy_loss",
          "tokenizer_class",
          "top_k",
          "top_p",
          "torchscript",
          "transformers_version",
          "typical_p",
          "unsloth_fixed",
          "unsloth_version",
          "use_bfloat16",
          "use_cache");

  /** Keys that may stand only with the value that switches them off. */
  private static final List<String> MUST_BE_FALSE =
      List.of(
          "add_cross_attention",
          "attention_bias",
          "is_decoder",
          "is_encoder_decoder",
          "mlp_bias",
          "rope_interleaved");

  private HuggingFaceConfig() {}

  /**
   * Reads a config file.
   *
   * @param file the {@code config.json}
   * @throws UserException naming file and key, if the architecture is unknown, a key is missing,
   *     unknown or out of range, or a feature is asked for that Lethe does not compute
   */
  public static LlamaConfigFile read(Path file) {
    return new Reader(file, JsonFiles.readObject(file)).llama();
  }

  /** {@code config.json} as transformers 4 and 5 load it into a {@code LlamaForCausalLM}. */
  public static String configJson(LlamaConfigFile config, StoredDtype dtype) {
    ObjectNode node = JsonNodeFactory.instance.objectNode();
    node.putArray("architectures").add(ARCHITECTURES.get("llama"));
    node.put("attention_bias", false).put("attention_dropout", 0.0);
    putIds(node, config);
    node.put("head_dim", config.headDim())
        .put("hidden_act", "silu")
        .put("hidden_size", config.hiddenSize())
        .put("initializer_range", 0.02)
        .put("intermediate_size", config.intermediateSize())
        .put("max_position_embeddings", config.maxPositionEmbeddings())
        .put("mlp_bias", false)
        .put("model_type", "llama")
        .put("num_attention_heads", config.heads())
        .put("num_hidden_layers", config.layers())
        .put("num_key_value_heads", config.kvHeads())
        .put("pretraining_tp", 1)
        .put("rms_norm_eps", config.rmsNormEps());
    // transformers 5 reads rope_parameters, 4 reads rope_theta.
    node.putObject("rope_parameters")
        .put("rope_theta", config.ropeTheta())
        .put("rope_type", "default");
    node.put("rope_theta", config.ropeTheta())
        .put("tie_word_embeddings", config.tieWordEmbeddings())
        .put("torch_dtype", dtypeName(dtype))
        .put("use_cache", true)
        .put("vocab_size", config.vocabSize());
    return JsonFiles.write(node);
  }

  /** {@code generation_config.json}: the special tokens that end and begin a generation. */
  public static String generationConfigJson(LlamaConfigFile config) {
    ObjectNode node = JsonNodeFactory.instance.objectNode();
    putIds(node, config);
    return JsonFiles.write(node);
  }

  private static void putIds(ObjectNode node, LlamaConfigFile config) {
    config
        .bosId()
        .ifPresentOrElse(id -> node.put("bos_token_id", id), () -> node.putNull("bos_token_id"));
    switch (config.eosIds().size()) {
      case 0 -> node.putNull("eos_token_id");
      case 1 -> node.put("eos_token_id", config.eosIds().get(0));
      default -> config.eosIds().forEach(node.putArray("eos_token_id")::add);
    }
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

  /** The keys of one file that have not been looked at yet. */
  private static final class Reader {
    private final StrictJson json;

    Reader(Path file, ObjectNode root) {
      json = new StrictJson(file, root);
    }

    LlamaConfigFile llama() {
      architecture();
      HARMLESS.forEach(json::take);
      MUST_BE_FALSE.forEach(json::requireFalse);
      // Read again by whoever opens the weights; here it is held to what Lethe reads.
      QuantizationConfig.take(json);
      json.requireText("hidden_act", "silu");
      JsonNode dropout = json.take("attention_dropout");
      if (dropout != null && (!dropout.isNumber() || dropout.doubleValue() != 0)) {
        throw json.error("attention_dropout", "must be 0; Lethe has no attention dropout");
      }
      int hiddenSize = json.positiveInt("hidden_size");
      int heads = json.positiveInt("num_attention_heads");
      // Absent or null, these two have one meaning in Llama: plain multi-head attention.
      int kvHeads = json.optionalPositiveInt("num_key_value_heads").orElse(heads);
      if (heads % kvHeads != 0) {
        throw json.error("num_key_value_heads", "must divide num_attention_heads, " + heads);
      }
      OptionalInt headDim = json.optionalPositiveInt("head_dim");
      if (headDim.isEmpty() && hiddenSize % heads != 0) {
        throw json.error(
            "head_dim", "is absent and hidden_size does not divide by the heads; add it");
      }
      if (headDim.orElse(hiddenSize / heads) % 2 != 0) {
        throw json.error("head_dim", "must be even for rotary embeddings; check the file");
      }
      int vocabSize = json.positiveInt("vocab_size");
      LlamaConfigFile config =
          new LlamaConfigFile(
              vocabSize,
              hiddenSize,
              json.positiveInt("num_hidden_layers"),
              heads,
              kvHeads,
              headDim.orElse(hiddenSize / heads),
              json.positiveInt("intermediate_size"),
              json.positiveDouble("rms_norm_eps"),
              ropeTheta(),
              json.positiveInt("max_position_embeddings"),
              tied(),
              bosId(vocabSize),
              ids("eos_token_id", vocabSize),
              dtype());
      json.refuseRest();
      return config;
    }

    private void architecture() {
      JsonNode type = json.take("model_type");
      if (type == null || !ARCHITECTURES.containsKey(type.asText())) {
        throw json.error(
            "model_type",
            (type == null ? "is absent" : "is " + type)
                + "; Lethe knows "
                + ARCHITECTURES.keySet()
                + ", convert the model or choose another");
      }
      JsonNode architectures = json.take("architectures");
      String known = ARCHITECTURES.get(type.asText());
      if (architectures != null
          && (architectures.size() != 1 || !architectures.path(0).asText().equals(known))) {
        throw json.error(
            "architectures",
            "is "
                + architectures
                + "; Lethe knows "
                + ARCHITECTURES.values()
                + ", choose such a model");
      }
    }

    private boolean tied() {
      JsonNode tied = json.take("tie_word_embeddings");
      if (tied == null || !tied.isBoolean()) {
        throw json.error(
            "tie_word_embeddings",
            "must be true or false; add false where the weights hold lm_head.weight, else true");
      }
      return tied.booleanValue();
    }

    private double ropeTheta() {
      List<Double> found = new ArrayList<>();
      JsonNode plain = json.take("rope_theta");
      if (plain != null) {
        found.add(json.positive("rope_theta", plain));
      }
      for (String key : List.of("rope_parameters", "rope_scaling")) {
        JsonNode node = json.take(key);
        if (node != null) {
          ropeTheta(key, node).ifPresent(found::add);
        }
      }
      onlyOne("partial_rotary_factor", json.take("partial_rotary_factor"));
      if (found.isEmpty()) {
        throw json.error(
            "rope_theta",
            "is absent; add it (models from before the key existed were trained with 10000.0)");
      }
      if (found.stream().distinct().count() > 1) {
        throw json.error("rope_theta", "is given as " + found + "; keep the right one");
      }
      return found.get(0);
    }

    private Optional<Double> ropeTheta(String key, JsonNode node) {
      if (!node.isObject()) {
        throw json.error(key, "must be an object; check the file");
      }
      Optional<Double> theta = Optional.empty();
      boolean typed = false;
      for (Map.Entry<String, JsonNode> entry : node.properties()) {
        String at = key + "." + entry.getKey();
        switch (entry.getKey()) {
          case "rope_theta" -> theta = Optional.of(json.positive(at, entry.getValue()));
          case "rope_type", "type" -> {
            typed = true;
            if (!entry.getValue().asText().equals("default")) {
              throw json.error(
                  at,
                  "is " + entry.getValue() + "; Lethe computes only 'default' rotary embeddings");
            }
          }
          case "partial_rotary_factor" -> onlyOne(at, entry.getValue());
          default ->
              throw json.error(at, "is not known to Lethe, which cannot tell what it changes");
        }
      }
      if (!typed) {
        throw json.error(key + ".rope_type", "is absent; add it");
      }
      return theta;
    }

    private void onlyOne(String key, JsonNode value) {
      if (value != null && (!value.isNumber() || value.doubleValue() != 1)) {
        throw json.error(key, "must be 1; Lethe rotates heads whole");
      }
    }

    private OptionalInt bosId(int vocabSize) {
      List<Integer> ids = ids("bos_token_id", vocabSize);
      if (ids.size() > 1) {
        throw json.error("bos_token_id", "must be one token; check the file");
      }
      return ids.isEmpty() ? OptionalInt.empty() : OptionalInt.of(ids.get(0));
    }

    private List<Integer> ids(String key, int vocabSize) {
      JsonNode node = json.take(key);
      List<Integer> ids = new ArrayList<>();
      if (node != null) {
        for (JsonNode id : node.isArray() ? node : List.of(node)) {
          if (!id.isInt() || id.intValue() < 0 || id.intValue() >= vocabSize) {
            throw json.error(key, "must name tokens below vocab_size, " + vocabSize);
          }
          ids.add(id.intValue());
        }
      }
      return List.copyOf(ids);
    }

    private Optional<StoredDtype> dtype() {
      Optional<StoredDtype> dtype = Optional.empty();
      for (String key : List.of("dtype", "torch_dtype")) {
        JsonNode node = json.take(key);
        if (node != null) {
          StoredDtype named = DTYPES.get(node.asText());
          if (named == null) {
            throw json.error(key, "is " + node + "; Lethe reads " + DTYPES.keySet());
          }
          if (dtype.isPresent() && dtype.get() != named) {
            throw json.error("torch_dtype", "and 'dtype' disagree; keep the right one");
          }
          dtype = Optional.of(named);
        }
      }
      return dtype;
    }
  }
}
