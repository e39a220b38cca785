package org.lethe.model;

/** Hugging Face's names of a Llama's parameters. */
public final class ParameterNames {
  /** The tokens' embedding, [vocabulary, hidden]. */
  public static final String EMBEDDING = "model.embed_tokens.weight";

  /** The head, [vocabulary, hidden], where it is not the embedding. */
  public static final String HEAD = "lm_head.weight";

  /** The norm before the head. */
  public static final String FINAL_NORM = "model.norm.weight";

  private ParameterNames() {}

  /** The module a projection is, without {@code .weight}: what PEFT's names are built on. */
  public static String module(int layer, String projection) {
    String block = isAttention(projection) ? "self_attn" : "mlp";
    return "model.layers." + layer + "." + block + "." + projection;
  }

  /** The weight of a projection of a layer, which counts from 0. */
  public static String weight(int layer, String projection) {
    return module(layer, projection) + ".weight";
  }

  /** The norm before a layer's attention. */
  public static String inputNorm(int layer) {
    return "model.layers." + layer + ".input_layernorm.weight";
  }

  /** The norm before a layer's feed-forward part. */
  public static String postAttentionNorm(int layer) {
    return "model.layers." + layer + ".post_attention_layernorm.weight";
  }

  private static boolean isAttention(String projection) {
    return switch (projection) {
      case "q_proj", "k_proj", "v_proj", "o_proj" -> true;
      default -> false;
    };
  }
}
