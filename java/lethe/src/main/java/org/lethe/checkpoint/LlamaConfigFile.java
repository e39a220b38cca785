package org.lethe.checkpoint;

import java.util.List;
import java.util.Optional;
import java.util.OptionalInt;

/**
 * What a Hugging Face {@code config.json} of the Llama family says, as plain numbers.
 *
 * @param vocabSize rows of the embedding
 * @param hiddenSize width of the residual stream
 * @param layers decoder layers
 * @param heads query heads
 * @param kvHeads key and value heads; divides {@code heads}
 * @param headDim width of a head; even
 * @param intermediateSize width of the feed-forward layer
 * @param rmsNormEps added to the mean square
 * @param ropeTheta base of the rotary frequencies
 * @param maxPositionEmbeddings longest sequence
 * @param tieWordEmbeddings whether the output head is the embedding
 * @param bosId beginning-of-sequence token, if any
 * @param eosIds end-of-sequence tokens, possibly none
 * @param dtype type the weights were saved in, if said
 */
public record LlamaConfigFile(
    int vocabSize,
    int hiddenSize,
    int layers,
    int heads,
    int kvHeads,
    int headDim,
    int intermediateSize,
    double rmsNormEps,
    double ropeTheta,
    int maxPositionEmbeddings,
    boolean tieWordEmbeddings,
    OptionalInt bosId,
    List<Integer> eosIds,
    Optional<StoredDtype> dtype) {
  public LlamaConfigFile {
    eosIds = List.copyOf(eosIds);
  }
}
