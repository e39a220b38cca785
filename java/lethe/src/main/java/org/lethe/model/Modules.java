package org.lethe.model;

import java.util.List;

/**
 * Hugging Face's names of a family's modules, those of a layer relative to the layer. Where a model
 * lacks a module its name is empty.
 *
 * @param attentionIn the projections to q, k and v, in this order: three, or one that is all of
 *     them
 * @param queryNorm the norm of each query
 * @param keyNorm the norm of each key
 * @param feedForwardIn gate and up, one that is both, or one that is not gated
 * @param inputNorm the norm before the attention
 * @param attentionAfterNorm the norm of the attention's output
 * @param feedForwardNorm the norm before the feed-forward part; empty where that runs in parallel
 * @param feedForwardAfterNorm the norm of the feed-forward part's output
 * @param finalNorm the norm before the head, from the model's root
 */
public record Modules(
    List<String> attentionIn,
    String attentionOut,
    String queryNorm,
    String keyNorm,
    List<String> feedForwardIn,
    String feedForwardOut,
    String inputNorm,
    String attentionAfterNorm,
    String feedForwardNorm,
    String feedForwardAfterNorm,
    String finalNorm) {

  /** The names that most families share. */
  public static final Modules LLAMA =
      new Modules(
          List.of("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"),
          "self_attn.o_proj",
          "self_attn.q_norm",
          "self_attn.k_norm",
          List.of("mlp.gate_proj", "mlp.up_proj"),
          "mlp.down_proj",
          "input_layernorm",
          "",
          "post_attention_layernorm",
          "",
          "model.norm");

  public Modules {
    attentionIn = List.copyOf(attentionIn);
    feedForwardIn = List.copyOf(feedForwardIn);
  }

  /** The same with other projections. */
  public Modules withProjections(
      List<String> newAttentionIn,
      String newAttentionOut,
      List<String> newFeedForwardIn,
      String newFeedForwardOut) {
    return new Modules(
        newAttentionIn,
        newAttentionOut,
        queryNorm,
        keyNorm,
        newFeedForwardIn,
        newFeedForwardOut,
        inputNorm,
        attentionAfterNorm,
        feedForwardNorm,
        feedForwardAfterNorm,
        finalNorm);
  }

  /** The same with other norms of layer and model. */
  public Modules withNorms(
      String input,
      String attentionAfter,
      String newFeedForward,
      String feedForwardAfter,
      String last) {
    return new Modules(
        attentionIn,
        attentionOut,
        queryNorm,
        keyNorm,
        feedForwardIn,
        feedForwardOut,
        input,
        attentionAfter,
        newFeedForward,
        feedForwardAfter,
        last);
  }
}
