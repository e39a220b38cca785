package org.lethe.config;

import java.nio.file.Path;
import java.util.Optional;

/** A new Llama: its sizes, and the size of the tokenizer that is trained on its data. */
public record ScratchSection(
    @Doc("Width of the residual stream") @Default("256") int hiddenSize,
    @Doc("Decoder layers") @Default("4") int layers,
    @Doc("Query heads") @Default("4") int heads,
    @Doc("Key and value heads") @Default("2") int kvHeads,
    @Doc("Width of the feed-forward layer") @Default("704") int feedForwardSize,
    @Doc("Longest sequence, in tokens") @Default("512") int contextLength,
    @Doc("Most tokens of the vocabulary") @Default("2048") int vocabulary,
    @Doc("Directory of a tokenizer to take instead of training one on the data; unset: train")
        Optional<Path> tokenizer) {

  public ScratchSection {
    Check.atLeast("hidden_size", 1, hiddenSize);
    Check.atLeast("layers", 1, layers);
    Check.atLeast("heads", 1, heads);
    Check.atLeast("kv_heads", 1, kvHeads);
    Check.atLeast("feed_forward_size", 1, feedForwardSize);
    Check.atLeast("context_length", 2, contextLength);
    Check.atLeast("vocabulary", 300, vocabulary);
    if (hiddenSize % heads != 0) {
      throw new IllegalArgumentException(
          "hidden_size " + hiddenSize + " must be a multiple of heads " + heads);
    }
  }
}
