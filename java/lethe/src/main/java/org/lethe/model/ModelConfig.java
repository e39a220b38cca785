package org.lethe.model;

import java.util.Collections;
import java.util.List;
import org.lethe.UserException;
import org.lethe.kernels.Activation;
import org.lethe.kernels.NormKind;

/**
 * The sizes and flags of a decoder. A model family is such a record, never a subclass: {@link
 * Decoder} computes whatever the flags say.
 *
 * @param family Hugging Face's {@code model_type}
 * @param sizes widths and counts
 * @param norms of every norm of the model
 * @param rotary the angles that queries and keys turn by
 * @param attention flags of the attention
 * @param feedForward flags of the feed-forward part
 * @param ends what happens at the embedding and at the head
 * @param modules Hugging Face's names
 */
public record ModelConfig(
    String family,
    Sizes sizes,
    Norms norms,
    Rotary rotary,
    Attention attention,
    FeedForward feedForward,
    Ends ends,
    Modules modules) {

  /**
   * Widths and counts.
   *
   * @param vocabulary V
   * @param hidden d
   * @param layers how many decoder layers
   * @param heads query heads
   * @param kvHeads key and value heads; {@code heads} is a multiple of it (grouped queries)
   * @param headDim size of one head; {@code heads * headDim} need not be d
   * @param feedForward f, the width inside the feed-forward part
   * @param context positions the model was made for: no sequence may be longer
   */
  public record Sizes(
      int vocabulary,
      int hidden,
      int layers,
      int heads,
      int kvHeads,
      int headDim,
      int feedForward,
      int context) {
    public Sizes {
      positive("vocab_size", vocabulary);
      positive("hidden_size", hidden);
      positive("num_hidden_layers", layers);
      positive("num_attention_heads", heads);
      positive("num_key_value_heads", kvHeads);
      positive("head_dim", headDim);
      positive("intermediate_size", feedForward);
      positive("max_position_embeddings", context);
      if (heads % kvHeads != 0) {
        throw new UserException(
            "num_attention_heads "
                + heads
                + " must be a multiple of num_key_value_heads "
                + kvHeads);
      }
    }

    private static void positive(String key, int value) {
      if (value < 1) {
        throw new UserException(key + " is " + value + ", must be at least 1; mend config.json");
      }
    }
  }

  /**
   * All norms of a model are alike.
   *
   * @param eps added to the mean square, or to the variance
   * @param weightShift added to the stored weight: 1 for Gemma, whose weights are kept around 0
   * @param after whether the outputs of attention and feed-forward part are normed too, before they
   *     join the residual stream (Gemma 2)
   */
  public record Norms(NormKind kind, float eps, float weightShift, boolean after) {
    /** RMS norms before attention, feed-forward part and head. */
    public static Norms rms(float eps) {
      return new Norms(NormKind.RMS, eps, 0, false);
    }
  }

  /**
   * Flags of the attention.
   *
   * @param inputBias whether q, k and v have a bias
   * @param outputBias whether the output has one
   * @param queryKeyNorm whether each query and each key is normed before it turns (Qwen 3)
   * @param scale of the products of queries and keys
   * @param softCap c of {@code c·tanh(s/c)} on the scaled products; 0: none
   * @param windows for each layer, how many keys, itself counted, a query sees; 0: all before it
   */
  public record Attention(
      boolean inputBias,
      boolean outputBias,
      boolean queryKeyNorm,
      float scale,
      float softCap,
      List<Integer> windows) {
    public Attention {
      windows = List.copyOf(windows);
    }

    /** Attention over everything before, scaled by 1/√head_dim, without biases. */
    public static Attention full(Sizes sizes) {
      return new Attention(
          false, false, false, scale(sizes.headDim()), 0, Collections.nCopies(sizes.layers(), 0));
    }

    /** The usual scale, 1/√width. */
    public static float scale(double width) {
      return (float) (1 / Math.sqrt(width));
    }

    /** The same with or without biases. */
    public Attention withBiases(boolean input, boolean output) {
      return new Attention(input, output, queryKeyNorm, scale, softCap, windows);
    }

    /** The same with these windows. */
    public Attention withWindows(List<Integer> ofLayers) {
      return new Attention(inputBias, outputBias, queryKeyNorm, scale, softCap, ofLayers);
    }

    /** The same with a norm of each query and key. */
    public Attention withQueryKeyNorm() {
      return new Attention(inputBias, outputBias, true, scale, softCap, windows);
    }
  }

  /**
   * Flags of the feed-forward part.
   *
   * @param gated {@code act(gate)·up} of two projections, or {@code act} of one
   * @param bias whether its projections have biases
   * @param parallel whether it reads what the attention reads, and both are added to the residual
   *     stream at once (Phi), or it follows the attention with a norm of its own
   */
  public record FeedForward(Activation activation, boolean gated, boolean bias, boolean parallel) {
    /** Gated, without biases, after the attention. */
    public static FeedForward gated(Activation activation) {
      return new FeedForward(activation, true, false, false);
    }
  }

  /**
   * Embedding and head.
   *
   * @param tiedHead whether the head is the embedding table
   * @param headBias whether the logits get a bias
   * @param embeddingScale what the embedding is multiplied by; rounded to the storage
   * @param logitSoftCap c of {@code c·tanh(z/c)} on the logits; 0: none
   */
  public record Ends(
      boolean tiedHead, boolean headBias, double embeddingScale, float logitSoftCap) {
    /** Nothing but whether the head is tied. */
    public static Ends plain(boolean tiedHead) {
      return new Ends(tiedHead, false, 1, 0);
    }
  }

  public ModelConfig {
    if (attention.windows().size() != sizes.layers()) {
      throw new UserException(
          "windows for " + attention.windows().size() + " of " + sizes.layers() + " layers");
    }
    if (norms.after() && feedForward.parallel()) {
      throw new UserException(
          "a feed-forward part beside the attention with norms after both is not computed");
    }
    if (rotary.width() > sizes.headDim()) {
      throw new UserException(
          "rotary embeddings turn " + rotary.width() + " of a head of " + sizes.headDim());
    }
  }

  /** A Llama with the rotary embeddings of its paper, without biases. */
  public static ModelConfig llama(Sizes sizes, float rmsNormEps, double ropeTheta, boolean tied) {
    return new ModelConfig(
        "llama",
        sizes,
        Norms.rms(rmsNormEps),
        Rotary.plain(ropeTheta, sizes.headDim()),
        Attention.full(sizes),
        FeedForward.gated(Activation.SILU),
        Ends.plain(tied),
        Modules.LLAMA);
  }

  /**
   * The same model for sequences of at most {@code length} tokens, never more than it was made for.
   */
  public ModelConfig withContextLength(int length) {
    Sizes shorter =
        new Sizes(
            sizes.vocabulary(),
            sizes.hidden(),
            sizes.layers(),
            sizes.heads(),
            sizes.kvHeads(),
            sizes.headDim(),
            sizes.feedForward(),
            Math.min(length, sizes.context()));
    return new ModelConfig(family, shorter, norms, rotary, attention, feedForward, ends, modules);
  }

  /** V. */
  public int vocabularySize() {
    return sizes.vocabulary();
  }

  /** d, the width of the residual stream. */
  public int hiddenSize() {
    return sizes.hidden();
  }

  /** How many decoder layers. */
  public int layers() {
    return sizes.layers();
  }

  /** Query heads. */
  public int heads() {
    return sizes.heads();
  }

  /** Key and value heads. */
  public int kvHeads() {
    return sizes.kvHeads();
  }

  /** Width of one head. */
  public int headDim() {
    return sizes.headDim();
  }

  /** f, the width inside the feed-forward part. */
  public int feedForwardSize() {
    return sizes.feedForward();
  }

  /** The longest sequence. */
  public int contextLength() {
    return sizes.context();
  }

  /** Whether the head is the embedding table. */
  public boolean tiedHead() {
    return ends.tiedHead();
  }

  /**
   * Rows of the tables of angles: a position p of a sequence that uses table t finds its angles in
   * row {@code t * context + p}.
   */
  public long rotaryRows() {
    return (long) rotary.tables() * contextLength();
  }

  /** Width of all query heads. */
  public int queryWidth() {
    return heads() * headDim();
  }

  /** Width of all key (or value) heads. */
  public int kvWidth() {
    return kvHeads() * headDim();
  }

  /** Width of one row of q, k and v together. */
  public int qkvWidth() {
    return queryWidth() + 2 * kvWidth();
  }

  /** Width of what the first projections of the feed-forward part give: gate and up, or one. */
  public int feedForwardInWidth() {
    return feedForward.gated() ? 2 * feedForwardSize() : feedForwardSize();
  }
}
