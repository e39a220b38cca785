package org.lethe.model;

import java.util.ArrayList;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import org.lethe.UserException;
import org.lethe.kernels.Dtype;
import org.lethe.kernels.LinearOps;

/**
 * Room beside and below the weights of a frozen model's linears, in which a device that wants it
 * has adapters take part in a weight's own product. Where a weight lies is decided before it is
 * read, so the adapters that are to come must be known by then.
 */
public final class AdapterRoom {
  /** None, whatever comes. */
  public static final AdapterRoom NONE = new AdapterRoom(SpareRule.PACKED, Map.of());

  private final SpareRule rule;
  private final Map<String, Integer> ranks;

  private AdapterRoom(SpareRule rule, Map<String, Integer> ranks) {
    this.rule = rule;
    this.ranks = ranks;
  }

  /**
   * Room for adapters.
   *
   * @param rule what the device wants
   * @param adapters all that the model is to carry at one time
   */
  public static AdapterRoom of(SpareRule rule, ModelConfig model, List<LoraConfig> adapters) {
    return adapters.isEmpty() ? NONE : new AdapterRoom(rule, ranks(model, adapters));
  }

  // Targets that name nothing are refused when the adapter itself comes.
  private static Map<String, Integer> ranks(ModelConfig model, List<LoraConfig> adapters) {
    List<String> modules = Lora.modules(model);
    Map<String, Integer> ranks = new HashMap<>();
    for (LoraConfig config : adapters) {
      config
          .among(modules)
          .forEach((module, adapter) -> ranks.merge(module, adapter.rank(), Integer::sum));
    }
    return ranks;
  }

  /** How the weight of a group lies. */
  LinearOps.Spare of(Dtype storage, int layer, Projection.Group group) {
    long rank = rank(ranks, layer, group);
    return rank == 0
        ? new LinearOps.Spare(group.in(), 0)
        : rule.of(storage, group.out(), group.in(), rank);
  }

  private static long rank(Map<String, Integer> ranks, int layer, Projection.Group group) {
    return group.parts().stream()
        .mapToLong(p -> ranks.getOrDefault(ParameterNames.module(layer, p.module()), 0))
        .sum();
  }

  /**
   * Refuses adapters that a weight has too little room for.
   *
   * @param carried all that the model carries, with those that are to come
   */
  void requireFit(ModelConfig model, Dtype storage, List<LoraConfig> carried) {
    if (ranks.isEmpty()) {
      return;
    }
    Map<String, Integer> wanted = ranks(model, carried);
    for (int layer = 0; layer < model.layers(); layer++) {
      for (Projection.Group group : ModelLayout.groups(model)) {
        LinearOps.Spare spare = of(storage, layer, group);
        long rank = rank(wanted, layer, group);
        long columns = spare.stride() - group.in();
        long room = Math.min(unlessNone(columns), unlessNone(spare.rows()));
        if (rank > room) {
          throw tooMany(layer, group, rank, room);
        }
      }
    }
  }

  private static long unlessNone(long room) {
    return room == 0 ? Long.MAX_VALUE : room;
  }

  private static UserException tooMany(int layer, Projection.Group group, long rank, long room) {
    List<String> modules = new ArrayList<>();
    group.parts().forEach(p -> modules.add(ParameterNames.module(layer, p.module())));
    return new UserException(
        "the adapters of "
            + String.join(", ", modules)
            + " have "
            + rank
            + " ranks in all, but the weight was loaded with room for "
            + room
            + "; load the model with all adapters that it is to carry (LoadOptions.withAdapters),"
            + " or open the device without LETHE_LORA_FORM=augmented");
  }
}
