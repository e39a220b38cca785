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
 * Qwen 3, the dense ones (transformers {@code models/qwen3}): each query and key is normed before
 * it turns; windows as in Qwen 2.
 *
 * <p>Class defaults that are taken: {@code head_dim} 128, {@code attention_bias} false, {@code
 * use_sliding_window} false.
 */
final class Qwen3 {
  static final Family FAMILY = new Family("qwen3", "Qwen3ForCausalLM", Set.of(), Qwen3::read);

  private static final int HEAD_DIM = 128;

  private Qwen3() {}

  private static ModelConfig read(ConfigKeys keys) {
    Sizes sizes = CommonKeys.groupedSizes(keys, HEAD_DIM);
    boolean bias = keys.flag("attention_bias").orElse(false);
    CommonKeys.noAttentionDropout(keys);
    return new ModelConfig(
        "qwen3",
        sizes,
        Norms.rms(CommonKeys.rmsNormEps(keys)),
        RotaryKeys.whole(keys, sizes),
        Attention.full(sizes)
            .withBiases(bias, bias)
            .withQueryKeyNorm()
            .withWindows(CommonKeys.switchedWindows(keys, sizes.layers())),
        FeedForward.gated(CommonKeys.activation(keys, "hidden_act")),
        Ends.plain(CommonKeys.tied(keys)),
        Modules.LLAMA);
  }
}
