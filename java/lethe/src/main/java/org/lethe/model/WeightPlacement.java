package org.lethe.model;

import org.lethe.UserException;

/**
 * How and where a model keeps its weights.
 *
 * @param linears how those of the layers' linears are kept
 * @param embeddingOnHost whether the embedding is in memory of the host that the device reaches
 *     over its bus: a step reads of it the rows of its tokens, and no more. The head is always on
 *     the device, since each chunk of a step's rows reads it whole. Not for a model whose head is
 *     its embedding, and not where the device is the host
 */
public record WeightPlacement(BaseStorage linears, boolean embeddingOnHost) {
  /** All in the storage of activations, on the device. */
  public static final WeightPlacement PLAIN = of(BaseStorage.PLAIN);

  /** On the device, with the layers' linears kept so. */
  public static WeightPlacement of(BaseStorage linears) {
    return new WeightPlacement(linears, false);
  }

  /** The same with the layers' linears kept in another way. */
  public WeightPlacement with(BaseStorage other) {
    return new WeightPlacement(other, embeddingOnHost);
  }

  /** The same with the embedding on the host. */
  public WeightPlacement withEmbeddingOnHost() {
    return new WeightPlacement(linears, true);
  }

  /** Whether a frozen embedding may be on the host, and saves the device something there. */
  public static boolean embeddingMayMove(ModelConfig config, boolean deviceIsHost) {
    return !config.tiedHead() && !deviceIsHost;
  }

  /**
   * Refuses an embedding on the host where it cannot be, or would save nothing.
   *
   * @param deviceIsHost whether the device is the host
   */
  public void requirePossible(ModelConfig config, boolean deviceIsHost) {
    if (!embeddingOnHost) {
      return;
    }
    if (deviceIsHost) {
      throw new UserException(
          "memory.embedding=host keeps the embedding on the host, and the device is the host:"
              + " nothing would be saved; set memory.embedding=device");
    }
    if (config.tiedHead()) {
      throw new UserException(
          "memory.embedding=host keeps the embedding off the device, but this model's head is its"
              + " embedding (tie_word_embeddings), which every step reads whole; set"
              + " memory.embedding=device");
    }
  }
}
