package org.lethe.checkpoint;

import java.util.List;
import java.util.Optional;
import java.util.OptionalInt;
import org.lethe.model.ModelConfig;

/**
 * What a Hugging Face {@code config.json} says.
 *
 * @param model sizes and flags
 * @param bosId beginning-of-sequence token, if any
 * @param eosIds end-of-sequence tokens, possibly none
 * @param dtype type the weights were saved in, if said
 * @param json the file's text: what is saved again keeps every key of it but {@code
 *     quantization_config}
 */
public record ModelConfigFile(
    ModelConfig model,
    OptionalInt bosId,
    List<Integer> eosIds,
    Optional<StoredDtype> dtype,
    String json) {
  public ModelConfigFile {
    eosIds = List.copyOf(eosIds);
  }
}
