package org.lethe.engine;

import java.util.List;
import java.util.Optional;
import org.lethe.UserException;
import org.lethe.data.ExampleEncoder;
import org.lethe.kernels.Dtype;
import org.lethe.model.BaseStorage;
import org.lethe.model.LoraConfig;
import org.lethe.model.WeightPlacement;

/**
 * How a model is loaded.
 *
 * @param dtype storage of weights and activations; statistics, master weights and moments are fp32
 *     either way
 * @param weights how the linears of the layers are kept (in 4-bit codes they are frozen), and where
 *     the embedding is
 * @param contextLength tokens of the longest sequence; 0, or more than the model's own: the model's
 *     own
 * @param promptTemplate a text with {@code {question}} in it; empty for the tokenizer's chat
 *     template
 * @param longSequence what becomes of a row that is longer than the context
 * @param adapters all that the model is to carry at one time; a device that wants adapters in the
 *     products of weights (a CUDA device opened with LETHE_LORA_FORM=augmented) gets room for these
 *     there, and gives others products of their own
 */
public record LoadOptions(
    Dtype dtype,
    WeightPlacement weights,
    int contextLength,
    Optional<String> promptTemplate,
    ExampleEncoder.LongSequence longSequence,
    List<LoraConfig> adapters) {
  /** fp32, all of the model's context, its chat template; answers that are too long are cut. */
  public static final LoadOptions DEFAULT =
      new LoadOptions(
          Dtype.F32,
          WeightPlacement.PLAIN,
          0,
          Optional.empty(),
          ExampleEncoder.LongSequence.TRUNCATE,
          List.of());

  /** Refuses a context that is negative. */
  public LoadOptions {
    adapters = List.copyOf(adapters);
    if (contextLength < 0) {
      throw new UserException(
          "a context of " + contextLength + " tokens is none; give 0 for the model's own");
    }
  }

  /** The same with weights and activations in bf16: half the memory. */
  public LoadOptions bf16() {
    return new LoadOptions(
        Dtype.BF16, weights, contextLength, promptTemplate, longSequence, adapters);
  }

  /** The same with the layers' linears kept in another way, such as in 4 bits under adapters. */
  public LoadOptions withBase(BaseStorage storage) {
    return with(weights.with(storage));
  }

  /**
   * The same with the embedding in the host's memory, frozen: a device of little memory is spared
   * it, and reads of it over its bus what a batch needs.
   */
  public LoadOptions withEmbeddingOnHost() {
    return with(weights.withEmbeddingOnHost());
  }

  private LoadOptions with(WeightPlacement placement) {
    return new LoadOptions(dtype, placement, contextLength, promptTemplate, longSequence, adapters);
  }

  /** The same with a shorter context. */
  public LoadOptions withContextLength(int tokens) {
    return new LoadOptions(dtype, weights, tokens, promptTemplate, longSequence, adapters);
  }

  /** The same with a plain prompt instead of the chat template. */
  public LoadOptions withPromptTemplate(String template) {
    return new LoadOptions(
        dtype, weights, contextLength, Optional.of(template), longSequence, adapters);
  }

  /** The same for a model that is to carry these adapters at one time; with none, no room. */
  public LoadOptions withAdapters(LoraConfig... carried) {
    return new LoadOptions(
        dtype, weights, contextLength, promptTemplate, longSequence, List.of(carried));
  }
}
