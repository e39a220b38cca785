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
 * Mistral (transformers {@code models/mistral}): a Llama whose layers all see the same window.
 *
 * <p>Class default that is taken: {@code head_dim} hidden_size / heads. {@code sliding_window} must
 * be there, null where all is seen: the class would assume 4096.
 */
final class Mistral {
  static final Family FAMILY = new Family("mistral", "MistralForCausalLM", Set.of(), Mistral::read);

  private Mistral() {}

  private static ModelConfig read(ConfigKeys keys) {
    Sizes sizes = CommonKeys.groupedSizes(keys, 0);
    CommonKeys.noAttentionDropout(keys);
    return new ModelConfig(
        "mistral",
        sizes,
        Norms.rms(CommonKeys.rmsNormEps(keys)),
        RotaryKeys.whole(keys, sizes),
        Attention.full(sizes).withWindows(CommonKeys.sameWindows(keys, sizes.layers())),
        FeedForward.gated(CommonKeys.activation(keys, "hidden_act")),
        Ends.plain(CommonKeys.tied(keys)),
        Modules.LLAMA);
  }
}
