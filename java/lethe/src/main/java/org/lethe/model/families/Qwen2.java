package org.lethe.model.families;

import java.util.Set;
import org.lethe.model.ModelConfig;
import org.lethe.model.ModelConfig.Attention;
import org.lethe.model.ModelConfig.Ends;
import org.lethe.model.ModelConfig.FeedForward;
import org.lethe.model.ModelConfig.Norms;
import org.lethe.model.ModelConfig.Sizes;
import org.lethe.model.Modules;

/**
 * Qwen 2 and 2.5 (transformers {@code models/qwen2}): a Llama with biases on q, k and v, always,
 * and windows that can be switched on for some layers.
 *
 * <p>Class defaults that are taken: {@code head_dim} hidden_size / heads, {@code
 * use_sliding_window} false.
 */
final class Qwen2 {
  static final Family FAMILY = new Family("qwen2", "Qwen2ForCausalLM", Set.of(), Qwen2::read);

  private Qwen2() {}

  private static ModelConfig read(ConfigKeys keys) {
    Sizes sizes = CommonKeys.groupedSizes(keys, 0);
    CommonKeys.noAttentionDropout(keys);
    keys.requireFalse("use_mrope", "positions of several axes belong to Qwen2-VL");
    return new ModelConfig(
        "qwen2",
        sizes,
        Norms.rms(CommonKeys.rmsNormEps(keys)),
        RotaryKeys.whole(keys, sizes),
        Attention.full(sizes)
            .withBiases(true, false)
            .withWindows(CommonKeys.switchedWindows(keys, sizes.layers())),
        FeedForward.gated(CommonKeys.activation(keys, "hidden_act")),
        Ends.plain(CommonKeys.tied(keys)),
        Modules.LLAMA);
  }
}
