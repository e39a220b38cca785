package org.lethe.model.families;

import java.util.ArrayList;
import java.util.Collections;
import java.util.List;
import java.util.Map;
import java.util.OptionalInt;
import java.util.Set;
import java.util.TreeSet;
import org.lethe.kernels.Activation;
import org.lethe.model.ModelConfig.Sizes;

/** The parts of {@code config.json} that families share. */
public final class CommonKeys {
  static final String NO_DROPOUT = "Lethe trains without that dropout; set it to 0";

  private static final String SLIDING = "sliding_attention";
  private static final String FULL = "full_attention";

  private static final Map<String, Activation> ACTIVATIONS =
      Map.of(
          "silu", Activation.SILU,
          "swish", Activation.SILU,
          "gelu", Activation.GELU_ERF,
          "gelu_new", Activation.GELU_TANH,
          "gelu_pytorch_tanh", Activation.GELU_TANH,
          "relu", Activation.RELU);

  /** Keys that say nothing about what the forward pass of a decoder computes. */
  public static final Set<String> HARMLESS =
      Set.of(
          "_attn_implementation_autoset",
          "_flash_attn_2_enabled",
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

  /** Rows of the head's weight, and all widths: an fp32 number counts them exactly. */
  private static final long MOST_WIDE = 1 << 24;

  private CommonKeys() {}

  /**
   * Sizes of a family whose class means plain multi-head attention where the key and value heads
   * are not named.
   */
  static Sizes sizes(ConfigKeys keys) {
    int heads = keys.requireWhole("num_attention_heads");
    return sizes(keys, heads, keys.whole("num_key_value_heads").orElse(heads), 0);
  }

  /** Sizes of a family that must name its key and value heads, since its class assumes a number. */
  static Sizes groupedSizes(ConfigKeys keys, int headDimDefault) {
    int heads = keys.requireWhole("num_attention_heads");
    return sizes(keys, heads, keys.requireWhole("num_key_value_heads"), headDimDefault);
  }

  /** {@code headDimDefault} 0: hidden_size / num_attention_heads. */
  private static Sizes sizes(ConfigKeys keys, int heads, int kvHeads, int headDimDefault) {
    int hidden = keys.requireWhole("hidden_size");
    if (heads % kvHeads != 0) {
      throw keys.error(
          "num_key_value_heads",
          "is " + kvHeads + "; it must divide num_attention_heads, " + heads + ", mend the file");
    }
    OptionalInt headDim = keys.whole("head_dim");
    if (headDim.isEmpty() && headDimDefault == 0 && hidden % heads != 0) {
      throw keys.error(
          "head_dim", "is absent and hidden_size does not divide by the heads; add it");
    }
    Sizes sizes =
        new Sizes(
            keys.requireWhole("vocab_size"),
            hidden,
            keys.requireWhole("num_hidden_layers"),
            heads,
            kvHeads,
            headDim.orElse(headDimDefault == 0 ? hidden / heads : headDimDefault),
            keys.requireWhole("intermediate_size"),
            keys.requireWhole("max_position_embeddings"));
    requireWithin(keys, sizes);
    return sizes;
  }

  private static void requireWithin(ConfigKeys keys, Sizes sizes) {
    long heads = (long) sizes.heads() * sizes.headDim();
    Map<String, Long> widths =
        Map.of(
            "vocab_size", (long) sizes.vocabulary(),
            "hidden_size", (long) sizes.hidden(),
            "intermediate_size", (long) sizes.feedForward(),
            "num_attention_heads", heads);
    widths.forEach(
        (key, width) -> {
          if (width > MOST_WIDE) {
            throw keys.error(
                key,
                "makes a width of " + width + "; kernels take up to " + MOST_WIDE + ", mend it");
          }
        });
  }

  static float rmsNormEps(ConfigKeys keys) {
    return (float) keys.requirePositive("rms_norm_eps");
  }

  static boolean tied(ConfigKeys keys) {
    return keys.flag("tie_word_embeddings")
        .orElseThrow(
            () ->
                keys.error(
                    "tie_word_embeddings",
                    "must be true or false; add false where the weights hold lm_head.weight, else"
                        + " true"));
  }

  static Activation activation(ConfigKeys keys, String key) {
    String name = keys.text(key).orElseThrow(() -> keys.error(key, "is absent; add it"));
    return activation(keys, key, name);
  }

  static Activation activation(ConfigKeys keys, String key, String name) {
    Activation activation = ACTIVATIONS.get(name);
    if (activation == null) {
      throw keys.error(
          key,
          "is '"
              + name
              + "'; Lethe computes only "
              + new TreeSet<>(ACTIVATIONS.keySet())
              + ", choose another model");
    }
    return activation;
  }

  static void noAttentionDropout(ConfigKeys keys) {
    keys.requireNeutral("attention_dropout", 0, NO_DROPOUT);
  }

  /** A window for all layers: a number, or null for none; a class's own default is not assumed. */
  static List<Integer> sameWindows(ConfigKeys keys, int layers) {
    if (!keys.present("sliding_window")) {
      throw keys.error(
          "sliding_window", "is absent; add it, null for attention to everything before");
    }
    return Collections.nCopies(layers, keys.whole("sliding_window").orElse(0));
  }

  /**
   * The windows of Qwen: {@code use_sliding_window} (false when absent, in every release of its
   * classes) switches {@code sliding_window} on for the layers that {@code layer_types} names, or
   * from {@code max_window_layers} on.
   */
  static List<Integer> switchedWindows(ConfigKeys keys, int layers) {
    boolean used = keys.flag("use_sliding_window").orElse(false);
    OptionalInt window = keys.whole("sliding_window");
    OptionalInt first = keys.count("max_window_layers");
    if (used && window.isEmpty()) {
      throw keys.error("sliding_window", "is absent, but use_sliding_window is true; add it");
    }
    List<Integer> named = namedWindows(keys, layers, used ? window.getAsInt() : 0);
    if (!named.isEmpty() || !used) {
      return named.isEmpty() ? Collections.nCopies(layers, 0) : named;
    }
    List<Integer> windows = new ArrayList<>();
    for (int layer = 0; layer < layers; layer++) {
      int from =
          first.orElseThrow(
              () -> keys.error("max_window_layers", "is absent, and so is layer_types; add one"));
      windows.add(layer >= from ? window.getAsInt() : 0);
    }
    return windows;
  }

  /** By {@code layer_types}; empty when that is absent. */
  static List<Integer> namedWindows(ConfigKeys keys, int layers, int window) {
    List<String> types = keys.texts("layer_types").orElse(List.of());
    if (!types.isEmpty() && types.size() != layers) {
      throw keys.error(
          "layer_types", "names " + types.size() + " layers of " + layers + "; mend it");
    }
    List<Integer> windows = new ArrayList<>();
    for (String type : types) {
      if (!type.equals(SLIDING) && !type.equals(FULL)) {
        throw keys.error(
            "layer_types",
            "names '" + type + "'; Lethe computes only '" + FULL + "' and '" + SLIDING + "'");
      }
      if (type.equals(SLIDING) && window == 0) {
        throw keys.error(
            "layer_types", "names '" + SLIDING + "', but no sliding_window is in use; set one");
      }
      windows.add(type.equals(SLIDING) ? window : 0);
    }
    return windows;
  }
}
