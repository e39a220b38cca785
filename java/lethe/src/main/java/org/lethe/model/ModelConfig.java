package org.lethe.model;

import org.lethe.UserException;

/**
 * The sizes and flags of a decoder. A model family is such a record, never a subclass.
 *
 * @param vocabularySize V
 * @param hiddenSize d
 * @param layers how many decoder layers
 * @param heads query heads
 * @param kvHeads key and value heads; {@code heads} is a multiple of it (grouped queries)
 * @param headDim size of one head; {@code heads * headDim} need not be d
 * @param feedForwardSize f, the width of gate and up
 * @param rmsNormEps added to the mean square in every norm
 * @param ropeTheta base of the rotary frequencies
 * @param contextLength positions the model was made for: no sequence may be longer
 * @param tiedHead whether the head is the embedding table
 */
public record ModelConfig(
    int vocabularySize,
    int hiddenSize,
    int layers,
    int heads,
    int kvHeads,
    int headDim,
    int feedForwardSize,
    float rmsNormEps,
    double ropeTheta,
    int contextLength,
    boolean tiedHead) {

  public ModelConfig {
    positive("vocab_size", vocabularySize);
    positive("hidden_size", hiddenSize);
    positive("num_hidden_layers", layers);
    positive("num_attention_heads", heads);
    positive("num_key_value_heads", kvHeads);
    positive("head_dim", headDim);
    positive("intermediate_size", feedForwardSize);
    positive("max_position_embeddings", contextLength);
    if (heads % kvHeads != 0) {
      throw new UserException(
          "num_attention_heads " + heads + " must be a multiple of num_key_value_heads " + kvHeads);
    }
    if (headDim % 2 != 0) {
      throw new UserException("head_dim " + headDim + " must be even for rotary embeddings");
    }
  }

  /**
   * The same model for sequences of at most {@code length} tokens, never more than it was made for.
   */
  public ModelConfig withContextLength(int length) {
    return new ModelConfig(
        vocabularySize,
        hiddenSize,
        layers,
        heads,
        kvHeads,
        headDim,
        feedForwardSize,
        rmsNormEps,
        ropeTheta,
        Math.min(length, contextLength),
        tiedHead);
  }

  /** Width of all query heads. */
  public int queryWidth() {
    return heads * headDim;
  }

  /** Width of all key (or value) heads. */
  public int kvWidth() {
    return kvHeads * headDim;
  }

  /** Width of one row of q, k and v together. */
  public int qkvWidth() {
    return queryWidth() + 2 * kvWidth();
  }

  private static void positive(String key, int value) {
    if (value < 1) {
      throw new UserException(key + " is " + value + ", must be at least 1; mend config.json");
    }
  }
}
