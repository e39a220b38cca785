package org.lethe.checkpoint;

import java.util.List;

/**
 * What {@code adapter_config.json} says of a LoRA adapter: {@code y = x Wᵀ + scale · (x Aᵀ) Bᵀ}.
 *
 * @param baseModel {@code base_model_name_or_path}; empty if not known
 * @param rank r, rows of A
 * @param alpha numerator of the scale
 * @param dropout probability in [0, 1) used while training
 * @param targetModules adapted modules: last parts of their names, or whole names
 * @param rankStabilized whether the scale divides by sqrt(r) in place of r
 */
public record PeftConfig(
    String baseModel,
    int rank,
    double alpha,
    double dropout,
    List<String> targetModules,
    boolean rankStabilized) {
  public PeftConfig {
    targetModules = List.copyOf(targetModules);
  }

  /** Factor in front of BA. */
  public double scale() {
    return alpha / (rankStabilized ? StrictMath.sqrt(rank) : rank);
  }

  /** Whether a module, by its name in the base model, is adapted; PEFT's rule for lists. */
  public boolean targets(String module) {
    return targetModules.stream()
        .anyMatch(target -> module.equals(target) || module.endsWith("." + target));
  }
}
