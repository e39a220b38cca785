package org.lethe.model;

/** Hugging Face's names of a decoder's parameters. */
public final class ParameterNames {
  /** The tokens' embedding, [vocabulary, hidden]. */
  public static final String EMBEDDING = "model.embed_tokens.weight";

  /** The head, [vocabulary, hidden], where it is not the embedding. */
  public static final String HEAD = "lm_head.weight";

  /** The head's bias, [vocabulary], where there is one. */
  public static final String HEAD_BIAS = "lm_head.bias";

  private ParameterNames() {}

  /**
   * A module by its full name, without {@code .weight}: what PEFT's names are built on.
   *
   * @param layer counts from 0
   * @param module relative to the layer, as {@code self_attn.q_proj}
   */
  public static String module(int layer, String module) {
    return "model.layers." + layer + "." + module;
  }

  /** The weight of a module of a layer. */
  public static String weight(int layer, String module) {
    return module(layer, module) + ".weight";
  }

  /** The bias of a module of a layer. */
  public static String bias(int layer, String module) {
    return module(layer, module) + ".bias";
  }
}
