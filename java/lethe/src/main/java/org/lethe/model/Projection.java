package org.lethe.model;

import java.util.List;
import org.lethe.kernels.Ops;

/**
 * One GEMM of a layer: a weight, or several that read the same input and stand side by side (q, k,
 * v; gate, up), with the adapters on its parts.
 *
 * @param linear the native handle
 * @param in input width
 * @param out output width of all parts
 * @param totalRank R, the width of {@code u}: the ranks of its adapters together; 0 without
 *     adapters
 */
record Projection(long linear, int in, int out, int totalRank) {

  /** A part: its Hugging Face module in the layer ({@code self_attn.q_proj}), its output width. */
  record Part(String module, int out) {
    /** The last part of the module's name, as adapters target it. */
    String name() {
      return module.substring(module.lastIndexOf('.') + 1);
    }
  }

  /**
   * @param group its parts, and whether they have biases
   * @param view the adapters on it
   * @param weights null: the base weight is frozen
   */
  static Projection create(
      Ops ops, Model model, int layer, Model.Group group, View view, Trainable weights) {
    List<Part> parts = group.parts();
    int in = group.in();
    int out = parts.stream().mapToInt(Part::out).sum();
    String first = ParameterNames.weight(layer, parts.get(0).module());
    String bias = ParameterNames.bias(layer, parts.get(0).module());
    long linear =
        ops.linearCreate(
            out,
            in,
            model.weight(first),
            weights == null ? 0 : weights.gradient(first),
            group.bias() ? model.weight(bias) : 0,
            group.bias() && weights != null ? weights.gradient(bias) : 0);
    int totalRank = 0;
    for (View.Weighted weighted : view.adapters()) {
      int firstOut = 0;
      for (Part part : parts) {
        totalRank +=
            weighted
                .adapter()
                .attach(linear, layer, part.module(), firstOut, part.out(), weighted.coefficient());
        firstOut += part.out();
      }
    }
    return new Projection(linear, in, out, totalRank);
  }
}
