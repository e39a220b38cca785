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
 * Llama 1 to 3.2 and what is built like them (transformers {@code models/llama}).
 *
 * <p>Class defaults that are taken: {@code num_key_value_heads} as many as heads, {@code head_dim}
 * hidden_size / heads, {@code attention_bias} and {@code mlp_bias} false, and the base of the
 * rotary embeddings in files older than {@code rope_theta}, Llama 2's among them.
 */
final class Llama {
  static final Family FAMILY = new Family("llama", "LlamaForCausalLM", Set.of(), Llama::read);

  private Llama() {}

  private static ModelConfig read(ConfigKeys keys) {
    Sizes sizes = CommonKeys.sizes(keys);
    boolean attentionBias = keys.flag("attention_bias").orElse(false);
    boolean mlpBias = keys.flag("mlp_bias").orElse(false);
    CommonKeys.noAttentionDropout(keys);
    return new ModelConfig(
        "llama",
        sizes,
        Norms.rms(CommonKeys.rmsNormEps(keys)),
        RotaryKeys.llama(keys, sizes),
        Attention.full(sizes).withBiases(attentionBias, attentionBias),
        new FeedForward(CommonKeys.activation(keys, "hidden_act"), true, mlpBias, false),
        Ends.plain(CommonKeys.tied(keys)),
        Modules.LLAMA);
  }
}
