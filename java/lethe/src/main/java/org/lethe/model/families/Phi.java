package org.lethe.model.families;

import java.util.List;
import java.util.Set;
import org.lethe.kernels.NormKind;
import org.lethe.model.ModelConfig;
import org.lethe.model.ModelConfig.Attention;
import org.lethe.model.ModelConfig.Ends;
import org.lethe.model.ModelConfig.FeedForward;
import org.lethe.model.ModelConfig.Norms;
import org.lethe.model.ModelConfig.Sizes;
import org.lethe.model.Modules;

/**
 * Phi 1, 1.5 and 2 (transformers {@code models/phi}): attention and an ungated feed-forward part
 * read one layer norm side by side; biases everywhere, on the head too.
 *
 * <p>Class defaults that are taken: {@code num_key_value_heads} as many as heads, {@code
 * partial_rotary_factor} 0.5, {@code qk_layernorm} false. Early published files name code of their
 * own ({@code auto_map}) that computes the same.
 */
final class Phi {
  static final Family FAMILY = new Family("phi", "PhiForCausalLM", Set.of("auto_map"), Phi::read);

  private static final double ROTATED = 0.5;

  private static final Modules MODULES =
      Modules.LLAMA
          .withProjections(
              Modules.LLAMA.attentionIn(), "self_attn.dense", List.of("mlp.fc1"), "mlp.fc2")
          .withNorms("input_layernorm", "", "", "", "model.final_layernorm");

  private Phi() {}

  private static ModelConfig read(ConfigKeys keys) {
    Sizes sizes = CommonKeys.sizes(keys);
    CommonKeys.noAttentionDropout(keys);
    keys.requireNeutral("embd_pdrop", 0, CommonKeys.NO_DROPOUT);
    keys.requireNeutral("resid_pdrop", 0, CommonKeys.NO_DROPOUT);
    keys.requireFalse("qk_layernorm", "no published Phi norms queries and keys");
    float eps = (float) keys.requirePositive("layer_norm_eps");
    return new ModelConfig(
        "phi",
        sizes,
        new Norms(NormKind.LAYER, eps, 0, false),
        RotaryKeys.partial(keys, sizes, ROTATED),
        Attention.full(sizes).withBiases(true, true),
        new FeedForward(CommonKeys.activation(keys, "hidden_act"), false, true, true),
        new Ends(CommonKeys.tied(keys), true, 1, 0),
        MODULES);
  }
}
