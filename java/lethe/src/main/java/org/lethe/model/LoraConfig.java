package org.lethe.model;

import java.util.List;
import org.lethe.UserException;

/**
 * Which projections carry LoRA adapters, and how large.
 *
 * @param rank r of every adapter
 * @param alpha the adapters' outputs are scaled by {@code alpha / rank}
 * @param targets projections by Hugging Face's names, of {@link #PROJECTIONS}
 */
public record LoraConfig(int rank, double alpha, List<String> targets) {
  /** Every linear of a decoder layer, in the order the layer runs them. */
  public static final List<String> PROJECTIONS =
      List.of("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj");

  public LoraConfig {
    for (String target : targets) {
      if (!PROJECTIONS.contains(target)) {
        throw new UserException(
            "lora.targets names " + target + "; a decoder layer has " + PROJECTIONS);
      }
    }
    targets = PROJECTIONS.stream().filter(targets::contains).toList();
    if (rank < 1) {
      throw new UserException("lora.rank is " + rank + ", must be at least 1");
    }
    if (!(alpha > 0)) {
      throw new UserException("lora.alpha is " + alpha + ", must be above 0");
    }
    if (targets.isEmpty()) {
      throw new UserException("lora.targets names none of " + PROJECTIONS + "; name at least one");
    }
  }

  /** Adapters of rank r on all seven projections. */
  public static LoraConfig all(int rank, double alpha) {
    return new LoraConfig(rank, alpha, PROJECTIONS);
  }

  /** What an adapter's output is multiplied by. */
  public float scale() {
    return (float) (alpha / rank);
  }
}
