package org.lethe.model;

import java.util.ArrayList;
import java.util.HashMap;
import java.util.List;
import java.util.Map;

/**
 * The projections of a model's layers as each view has them, made when a view is first asked for.
 * Owns their linears.
 */
final class Projections implements AutoCloseable {
  private final Model model;
  private final Adapters adapters;
  private final Map<View, List<Layer>> made = new HashMap<>();

  /** The projections of one layer. */
  record Layer(Projection qkv, Projection o, Projection gateUp, Projection down) {}

  /**
   * @param adapters that views may name
   */
  Projections(Model model, Adapters adapters) {
    this.model = model;
    this.adapters = adapters;
  }

  /** The layers as a view has them. */
  List<Layer> of(View view) {
    List<Layer> layers = made.get(view);
    if (layers == null) {
      adapters.requireOwned(view);
      layers = create(view);
      made.put(view, layers);
    }
    return layers;
  }

  /** The widths of u of a view, the largest of its layers'. */
  AdapterWidths widths(View view) {
    AdapterWidths widest = AdapterWidths.NONE;
    for (Layer layer : of(view)) {
      widest = widest.or(AdapterWidths.of(layer));
    }
    return widest;
  }

  private List<Layer> create(View view) {
    List<Layer> created = new ArrayList<>();
    for (int layer = 0; layer < model.config().layers(); layer++) {
      List<Projection> p = new ArrayList<>();
      for (Projection.Group group : ModelLayout.groups(model.config())) {
        p.add(Projection.create(model, layer, group, view));
      }
      created.add(new Layer(p.get(0), p.get(1), p.get(2), p.get(3)));
    }
    return created;
  }

  /** Closes all that there are; they are made again when they are next asked for. */
  @Override
  public void close() {
    for (List<Layer> ofView : made.values()) {
      for (Layer layer : ofView) {
        for (Projection p : List.of(layer.qkv(), layer.o(), layer.gateUp(), layer.down())) {
          model.ops().linear().close(p.linear());
        }
      }
    }
    made.clear();
  }
}
