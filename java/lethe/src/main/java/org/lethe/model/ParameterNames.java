package org.lethe.model;

/** Hugging Face's names of a Llama's parameters. */
public final class ParameterNames {
  public static final String EMBEDDING = "model.embed_tokens.weight";
  public static final String HEAD = "lm_head.weight";
  public static final String FINAL_NORM = "model.norm.weight";

  private ParameterNames() {}

  /** The module a projection is, without {@code .weight}: what PEFT's names are built on. */
  public static String module(int layer, String projection) {
    String block = isAttention(projection) ? "self_attn" : "mlp";
    return "model.layers." + layer + "." + block + "." + projection;
  }

  public static String weight(int layer, String projection) {
    return module(layer, projection) + ".weight";
  }

  public static String inputNorm(int layer) {
    return "model.layers." + layer + ".input_layernorm.weight";
  }

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
