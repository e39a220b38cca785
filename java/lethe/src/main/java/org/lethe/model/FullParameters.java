package org.lethe.model;

import org.lethe.UserException;
import org.lethe.kernels.Dtype;
import org.lethe.kernels.Ops;

/** All weights of a model as what trains: when they can, and what their optimizer takes. */
final class FullParameters {
  private FullParameters() {}

  /**
   * Makes every weight trainable.
   *
   * @throws UserException where the weights lie as they cannot train
   * @throws org.lethe.EnvironmentException when there is too little memory; it says what would need
   *     less
   */
  static Trainable train(
      Ops ops,
      ModelConfig config,
      BaseWeights weights,
      Adapters adapters,
      OptimizerConfig optimizer) {
    Layout layout = Model.layout(config);
    requirePossible(weights, adapters, layout);
    UpdateGroups groups = UpdateGroups.of(config, layout);
    long working = weights.arena().at(weights.first());
    return MemoryPlan.take(
        () -> new Trainable(ops, layout, groups, optimizer, working),
        () -> plan(config, ops.dtype(), optimizer));
  }

  private static void requirePossible(BaseWeights weights, Adapters adapters, Layout layout) {
    if (weights.storage().quantized()) {
      throw new UserException(
          "all weights are to train, but those of the layers are kept in 4-bit codes, which have"
              + " no gradients; load them plain (quantize_base=none), or train adapters"
              + " (train.full_parameters=false)");
    }
    if (weights.placement().embeddingOnHost()) {
      throw new UserException(
          "all weights are to train, but the embedding is kept on the host, where it is frozen; set"
              + " memory.embedding=device, or train adapters (train.full_parameters=false)");
    }
    if (adapters.hasFrozen()) {
      throw new UserException(
          "all weights train, and adapters lie on them; merge the adapters into the model first");
    }
    if (!weights.standAs(layout)) {
      throw new UserException(
          "all weights are to train, but those of the layers were loaded with room for adapters;"
              + " load the model without (LoadOptions.withAdapters of none)");
    }
  }

  private static MemoryPlan plan(ModelConfig config, Dtype storage, OptimizerConfig o) {
    long bytes = Trainable.bytes(config, storage, o);
    MemoryPlan plan = new MemoryPlan().part("gradients and optimizer of all weights", bytes);
    OptimizerConfig coded =
        new OptimizerConfig(o.master(), OptimizerConfig.Moments.EIGHT_BIT, o.fused());
    plan.remedy("train.optimizer_state=8bit", bytes - Trainable.bytes(config, storage, coded));
    OptimizerConfig fused = new OptimizerConfig(o.master(), o.moments(), true);
    plan.remedy("train.fused_update=true", bytes - Trainable.bytes(config, storage, fused));
    if (storage == Dtype.BF16) {
      OptimizerConfig none =
          new OptimizerConfig(OptimizerConfig.Master.NONE, o.moments(), o.fused());
      plan.remedy("train.master=none", bytes - Trainable.bytes(config, storage, none));
    }
    return plan.remedy("adapters instead (train.full_parameters=false)", bytes);
  }
}
