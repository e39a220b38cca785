package org.lethe.model.families;

import java.util.Optional;
import java.util.Set;
import org.lethe.kernels.Activation;
import org.lethe.kernels.NormKind;
import org.lethe.model.ModelConfig;
import org.lethe.model.ModelConfig.Attention;
import org.lethe.model.ModelConfig.Ends;
import org.lethe.model.ModelConfig.FeedForward;
import org.lethe.model.ModelConfig.Norms;
import org.lethe.model.ModelConfig.Sizes;
import org.lethe.model.Modules;

/**
 * Gemma 1 (transformers {@code models/gemma}): the embedding is multiplied by √hidden_size, norms
 * by 1 + weight, GELU by tanh.
 *
 * <p>Class defaults that are taken: {@code head_dim} 256, {@code tie_word_embeddings} true, {@code
 * attention_bias} false, the activation. {@code hidden_act} "gelu" means GELU by tanh in Gemma 1:
 * the first files said so by mistake, and transformers reads them so.
 */
final class Gemma {
  static final Family FAMILY = new Family("gemma", "GemmaForCausalLM", Set.of(), Gemma::read);

  static final int HEAD_DIM = 256;

  private static final String TANH = "gelu_pytorch_tanh";

  private Gemma() {}

  private static ModelConfig read(ConfigKeys keys) {
    Sizes sizes = CommonKeys.groupedSizes(keys, HEAD_DIM);
    requireTanh(keys, "hidden_act", Set.of("gelu", TANH));
    requireTanh(keys, "hidden_activation", Set.of(TANH));
    return new ModelConfig(
        "gemma",
        sizes,
        norms(keys, false),
        RotaryKeys.whole(keys, sizes),
        attention(keys, sizes),
        FeedForward.gated(Activation.GELU_TANH),
        ends(keys, sizes, 0),
        Modules.LLAMA);
  }

  static Norms norms(ConfigKeys keys, boolean after) {
    return new Norms(NormKind.RMS, CommonKeys.rmsNormEps(keys), 1, after);
  }

  static Attention attention(ConfigKeys keys, Sizes sizes) {
    CommonKeys.noAttentionDropout(keys);
    keys.requireFalse("use_bidirectional_attention", "Lethe generates from left to right");
    boolean bias = keys.flag("attention_bias").orElse(false);
    return Attention.full(sizes).withBiases(bias, bias);
  }

  static Ends ends(ConfigKeys keys, Sizes sizes, float logitSoftCap) {
    boolean tied = keys.flag("tie_word_embeddings").orElse(true);
    return new Ends(tied, false, Math.sqrt(sizes.hidden()), logitSoftCap);
  }

  private static void requireTanh(ConfigKeys keys, String key, Set<String> meaning) {
    Optional<String> name = keys.text(key);
    if (name.isPresent() && !meaning.contains(name.get())) {
      throw keys.error(key, "is '" + name.get() + "'; a Gemma computes '" + TANH + "'");
    }
  }
}
