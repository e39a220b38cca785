package org.lethe.model;

import java.util.List;
import java.util.Map;

/**
 * The widths of {@code u}, the sums of the adapters' ranks, of each projection of a layer; the
 * largest where layers or views differ, since they share memory.
 *
 * @param qkv of queries, keys and values together
 * @param o of the attention's output
 * @param gateUp of what enters the feed-forward part
 * @param down of what leaves it
 */
public record AdapterWidths(int qkv, int o, int gateUp, int down) {
  /** No adapters. */
  public static final AdapterWidths NONE = new AdapterWidths(0, 0, 0, 0);

  /** What adapters of a configuration have on a model of these sizes. */
  public static AdapterWidths of(ModelConfig model, LoraConfig lora) {
    return of(model, List.of(lora));
  }

  /**
   * What all of these have together.
   *
   * @param adapters that may be in one view
   */
  public static AdapterWidths of(ModelConfig model, List<LoraConfig> adapters) {
    List<Map<String, LoraConfig.Adapter>> found =
        adapters.stream().map(lora -> lora.resolve(Lora.modules(model))).toList();
    List<Projection.Group> groups = ModelLayout.groups(model);
    AdapterWidths widest = NONE;
    for (int layer = 0; layer < model.layers(); layer++) {
      int[] widths = new int[groups.size()];
      for (int group = 0; group < widths.length; group++) {
        for (Projection.Part part : groups.get(group).parts()) {
          String module = ParameterNames.module(layer, part.module());
          for (Map<String, LoraConfig.Adapter> each : found) {
            LoraConfig.Adapter adapter = each.get(module);
            widths[group] += adapter == null ? 0 : adapter.rank();
          }
        }
      }
      widest = widest.or(new AdapterWidths(widths[0], widths[1], widths[2], widths[3]));
    }
    return widest;
  }

  /** What a layer's projections have. */
  static AdapterWidths of(Projections.Layer layer) {
    return new AdapterWidths(
        layer.qkv().totalRank(),
        layer.o().totalRank(),
        layer.gateUp().totalRank(),
        layer.down().totalRank());
  }

  /** The larger of each. */
  AdapterWidths or(AdapterWidths other) {
    return new AdapterWidths(
        Math.max(qkv, other.qkv),
        Math.max(o, other.o),
        Math.max(gateUp, other.gateUp),
        Math.max(down, other.down));
  }

  int widest() {
    return Math.max(Math.max(qkv, o), Math.max(gateUp, down));
  }
}
