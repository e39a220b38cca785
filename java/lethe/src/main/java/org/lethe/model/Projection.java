package org.lethe.model;

import java.util.List;

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

  /** Projections that read the same input of width {@code in}; all or none have a bias. */
  record Group(int in, List<Part> parts, boolean bias) {
    /** Output width of all parts. */
    int out() {
      return parts.stream().mapToInt(Part::out).sum();
    }
  }

  /**
   * @param group its parts, and whether they have biases
   * @param view the adapters on it
   */
  static Projection create(Model model, int layer, Projection.Group group, View view) {
    List<Part> parts = group.parts();
    long linear = model.linear(layer, group);
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
    return new Projection(linear, group.in(), group.out(), totalRank);
  }
}
