package org.lethe.model.families;

import java.util.Set;
import java.util.function.Function;
import org.lethe.model.ModelConfig;

/**
 * What Lethe knows of a model family of Hugging Face's transformers.
 *
 * @param modelType {@code model_type} of its {@code config.json}
 * @param architecture its class with a language model's head
 * @param harmless keys of its config that say nothing about what the model computes, beside {@link
 *     CommonKeys#HARMLESS}
 * @param reader makes sizes and flags of the other keys
 */
public record Family(
    String modelType,
    String architecture,
    Set<String> harmless,
    Function<ConfigKeys, ModelConfig> reader) {
  public Family {
    harmless = Set.copyOf(harmless);
  }
}
