package org.lethe.run;

import java.util.List;
import org.lethe.UserException;
import org.lethe.config.RunConfig;
import org.lethe.kernels.Backend;
import org.lethe.kernels.Dtype;
import org.lethe.kernels.Ops;
import org.lethe.model.AdapterRoom;
import org.lethe.model.BaseStorage;
import org.lethe.model.LoraConfig;
import org.lethe.model.MemoryPlan;
import org.lethe.model.Model;
import org.lethe.model.ModelConfig;
import org.lethe.model.SpareRule;
import org.lethe.model.WeightPlacement;
import org.lethe.train.DeviceCosts;

/** What loading a model takes of its device, and whether a run's budget has it. */
final class LoadingRoom {
  private LoadingRoom() {}

  /** Bytes that are taken at one time, libraries included. */
  static long bytes(
      ModelConfig model,
      Dtype dtype,
      WeightPlacement weights,
      AdapterRoom room,
      DeviceCosts costs) {
    return costs.overheadBytes() + Model.loadingBytes(model, dtype, weights, room, costs.host());
  }

  /**
   * Refuses a model that cannot be loaded within the budget, before anything of it is read.
   *
   * @param adapters that it will carry
   * @throws UserException saying what is needed and which settings help
   */
  static void require(RunConfig config, Ops ops, ModelConfig model, List<LoraConfig> adapters) {
    long budget = config.memory().budgetBytes();
    if (budget == 0) {
      return;
    }
    WeightPlacement weights = LoadedModel.placement(config);
    AdapterRoom room = AdapterRoom.of(SpareRule.of(ops), model, adapters);
    DeviceCosts costs = DeviceCosts.of(ops.backend().isHost());
    long needed = bytes(model, ops.dtype(), weights, room, costs);
    if (needed <= budget) {
      return;
    }
    long kept = Model.bytes(model, ops.dtype(), weights, room);
    WeightPlacement codes = weights.with(BaseStorage.NF4_DOUBLE);
    MemoryPlan plan =
        new MemoryPlan()
            .part("libraries", costs.overheadBytes())
            .part("weights", kept)
            .part("what they pass through", needed - costs.overheadBytes() - kept)
            .remedy("memory.budget=" + (needed / 1_000_000 + 1) + "MB, and more to train")
            .remedy("dtype=bf16", kept - Model.bytes(model, Dtype.BF16, weights, room))
            .remedy(
                "quantize_base=nf4_double, under adapters,",
                kept - Model.bytes(model, ops.dtype(), codes, room));
    throw new UserException(
        "memory.budget is "
            + Backend.amount(budget)
            + ", which is too little to load the model"
            + plan);
  }
}
