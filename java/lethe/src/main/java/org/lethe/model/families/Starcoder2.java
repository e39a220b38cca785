package org.lethe.model.families;

import java.util.Collections;
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
 * StarCoder 2 (transformers {@code models/starcoder2}): layer norms, an ungated feed-forward part,
 * biases on all of a layer's projections.
 *
 * <p>Class defaults that are taken: {@code head_dim} hidden_size / heads, {@code use_bias} true,
 * {@code tie_word_embeddings} true, {@code sliding_window} none.
 */
final class Starcoder2 {
  static final Family FAMILY =
      new Family("starcoder2", "Starcoder2ForCausalLM", Set.of(), Starcoder2::read);

  private static final Modules MODULES =
      Modules.LLAMA.withProjections(
          Modules.LLAMA.attentionIn(),
          Modules.LLAMA.attentionOut(),
          List.of("mlp.c_fc"),
          "mlp.c_proj");

  private Starcoder2() {}

  private static ModelConfig read(ConfigKeys keys) {
    Sizes sizes = CommonKeys.groupedSizes(keys, 0);
    CommonKeys.noAttentionDropout(keys);
    keys.requireNeutral("embedding_dropout", 0, CommonKeys.NO_DROPOUT);
    keys.requireNeutral("residual_dropout", 0, CommonKeys.NO_DROPOUT);
    boolean bias = keys.flag("use_bias").orElse(true);
    int window = keys.whole("sliding_window").orElse(0);
    return new ModelConfig(
        "starcoder2",
        sizes,
        new Norms(NormKind.LAYER, (float) keys.requirePositive("norm_epsilon"), 0, false),
        RotaryKeys.whole(keys, sizes),
        Attention.full(sizes)
            .withBiases(bias, bias)
            .withWindows(Collections.nCopies(sizes.layers(), window)),
        new FeedForward(CommonKeys.activation(keys, "hidden_act"), false, bias, false),
        Ends.plain(keys.flag("tie_word_embeddings").orElse(true)),
        MODULES);
  }
}
