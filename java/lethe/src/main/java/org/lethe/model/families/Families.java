package org.lethe.model.families;

import java.util.List;
import java.util.Optional;

/** The model families that Lethe computes. */
public final class Families {
  /** All of them. A new one is a file beside this and a line here. */
  public static final List<Family> ALL =
      List.of(
          Llama.FAMILY,
          Mistral.FAMILY,
          Qwen2.FAMILY,
          Qwen3.FAMILY,
          Phi.FAMILY,
          Phi3.FAMILY,
          Gemma.FAMILY,
          Gemma2.FAMILY,
          Starcoder2.FAMILY);

  private Families() {}

  /** The family of a {@code model_type}. */
  public static Optional<Family> of(String modelType) {
    return ALL.stream().filter(f -> f.modelType().equals(modelType)).findFirst();
  }

  /** Every {@code model_type}. */
  public static List<String> names() {
    return ALL.stream().map(Family::modelType).toList();
  }
}
