package org.lethe.model.families;

import java.util.ArrayList;
import java.util.List;
import java.util.Optional;
import java.util.Set;
import org.lethe.kernels.Activation;
import org.lethe.model.ModelConfig;
import org.lethe.model.ModelConfig.Attention;
import org.lethe.model.ModelConfig.FeedForward;
import org.lethe.model.ModelConfig.Sizes;
import org.lethe.model.Modules;

/**
 * Gemma 2 (transformers {@code models/gemma2}): a Gemma with soft caps on attention and logits,
 * windows on every second layer from the first, and norms after attention and feed-forward part
 * too.
 *
 * <p>Class defaults that are taken: those of {@link Gemma} and the alternation of the windows.
 * Caps, window and {@code query_pre_attn_scalar} must be there; a cap may be null.
 */
final class Gemma2 {
  static final Family FAMILY =
      new Family("gemma2", "Gemma2ForCausalLM", Set.of("cache_implementation"), Gemma2::read);

  private static final Modules MODULES =
      Modules.LLAMA.withNorms(
          "input_layernorm",
          "post_attention_layernorm",
          "pre_feedforward_layernorm",
          "post_feedforward_layernorm",
          "model.norm");

  private Gemma2() {}

  private static ModelConfig read(ConfigKeys keys) {
    Sizes sizes = CommonKeys.groupedSizes(keys, Gemma.HEAD_DIM);
    int window = window(keys);
    List<Integer> windows = CommonKeys.namedWindows(keys, sizes.layers(), window);
    Attention plain = Gemma.attention(keys, sizes);
    return new ModelConfig(
        "gemma2",
        sizes,
        Gemma.norms(keys, true),
        RotaryKeys.whole(keys, sizes),
        new Attention(
            plain.inputBias(),
            plain.outputBias(),
            false,
            Attention.scale(keys.requirePositive("query_pre_attn_scalar")),
            cap(keys, "attn_logit_softcapping"),
            windows.isEmpty() ? alternating(sizes.layers(), window) : windows),
        FeedForward.gated(activation(keys)),
        Gemma.ends(keys, sizes, cap(keys, "final_logit_softcapping")),
        MODULES);
  }

  /** Published files of 9B and 27B say it again as {@code sliding_window_size}. */
  private static int window(ConfigKeys keys) {
    int window = keys.requireWhole("sliding_window");
    if (keys.whole("sliding_window_size").orElse(window) != window) {
      throw keys.error("sliding_window_size", "and 'sliding_window' disagree; keep the right one");
    }
    return window;
  }

  private static List<Integer> alternating(int layers, int window) {
    List<Integer> windows = new ArrayList<>();
    for (int layer = 0; layer < layers; layer++) {
      windows.add(layer % 2 == 0 ? window : 0);
    }
    return windows;
  }

  private static float cap(ConfigKeys keys, String key) {
    if (!keys.present(key)) {
      throw keys.error(key, "is absent; add it, null for no cap");
    }
    return (float) keys.positive(key).orElse(0);
  }

  /** {@code hidden_activation} rules; files also carry a {@code hidden_act}, which must agree. */
  private static Activation activation(ConfigKeys keys) {
    Optional<String> act = keys.text("hidden_act");
    Optional<String> ruling = keys.text("hidden_activation");
    Activation activation =
        CommonKeys.activation(keys, "hidden_activation", ruling.orElse("gelu_pytorch_tanh"));
    if (act.isPresent() && CommonKeys.activation(keys, "hidden_act", act.get()) != activation) {
      throw keys.error("hidden_act", "and 'hidden_activation' disagree; keep the right one");
    }
    return activation;
  }
}
