package org.lethe.model.families;

import java.util.Collections;
import java.util.List;
import java.util.Set;
import org.lethe.model.ModelConfig;
import org.lethe.model.ModelConfig.Attention;
import org.lethe.model.ModelConfig.Ends;
import org.lethe.model.ModelConfig.FeedForward;
import org.lethe.model.ModelConfig.Norms;
import org.lethe.model.ModelConfig.Sizes;
import org.lethe.model.Modules;

/**
 * Phi 3, 3.5 and 4-mini (transformers {@code models/phi3}): a Llama whose q, k and v are one
 * projection and whose gate and up are another, with LongRoPE and a window for all layers.
 *
 * <p>Class defaults that are taken: {@code num_key_value_heads} as many as heads, {@code
 * partial_rotary_factor} 1, {@code sliding_window} none. Published files name code of their own
 * ({@code auto_map}) that computes the same.
 */
final class Phi3 {
  static final Family FAMILY =
      new Family("phi3", "Phi3ForCausalLM", Set.of("auto_map"), Phi3::read);

  private static final String OTHER_CODE = "transformers' own class does not know it";

  private static final Modules MODULES =
      Modules.LLAMA.withProjections(
          List.of("self_attn.qkv_proj"),
          "self_attn.o_proj",
          List.of("mlp.gate_up_proj"),
          "mlp.down_proj");

  private Phi3() {}

  private static ModelConfig read(ConfigKeys keys) {
    Sizes sizes = CommonKeys.sizes(keys);
    CommonKeys.noAttentionDropout(keys);
    keys.requireNeutral("embd_pdrop", 0, CommonKeys.NO_DROPOUT);
    keys.requireNeutral("resid_pdrop", 0, CommonKeys.NO_DROPOUT);
    for (String key : List.of("attention_bias", "mlp_bias", "lm_head_bias")) {
      keys.requireFalse(key, OTHER_CODE);
    }
    keys.requireNeutral("full_attn_mod", 1, OTHER_CODE);
    keys.requireNeutral("interpolate_factor", 1, OTHER_CODE);
    int window = keys.whole("sliding_window").orElse(0);
    return new ModelConfig(
        "phi3",
        sizes,
        Norms.rms(CommonKeys.rmsNormEps(keys)),
        RotaryKeys.phi3(keys, sizes),
        Attention.full(sizes).withWindows(Collections.nCopies(sizes.layers(), window)),
        FeedForward.gated(CommonKeys.activation(keys, "hidden_act")),
        Ends.plain(CommonKeys.tied(keys)),
        MODULES);
  }
}
