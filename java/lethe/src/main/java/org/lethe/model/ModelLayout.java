package org.lethe.model;

import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.function.BiFunction;
import org.lethe.kernels.Dtype;
import org.lethe.kernels.LinearOps;
import org.lethe.kernels.NormKind;

/** Which parameters a model has, and where they stand: what flags and names of its config say. */
final class ModelLayout {
  private ModelLayout() {}

  /**
   * Matrices first, then vectors: norms and biases, which no weight decay acts on. The biases of
   * projections that one GEMM computes stand side by side, as its weights do.
   */
  static Layout of(ModelConfig c) {
    return of(c, WeightPlacement.PLAIN, (layer, group) -> new LinearOps.Spare(group.in(), 0));
  }

  /**
   * The same without what a placement keeps elsewhere or in another form, and with room for
   * adapters beside and below the weights of the layers' linears.
   */
  static Layout of(ModelConfig c, Dtype storage, WeightPlacement placement, AdapterRoom room) {
    return of(c, placement, (layer, group) -> room.of(storage, layer, group));
  }

  private static Layout of(
      ModelConfig c,
      WeightPlacement placement,
      BiFunction<Integer, Projection.Group, LinearOps.Spare> spares) {
    boolean linears = !placement.linears().quantized();
    Layout.Builder builder = new Layout.Builder();
    if (!placement.embeddingOnHost()) {
      builder.align().matrix(ParameterNames.EMBEDDING, c.vocabularySize(), c.hiddenSize());
    }
    for (int layer = 0; linears && layer < c.layers(); layer++) {
      for (Projection.Group group : groups(c)) {
        builder.align();
        LinearOps.Spare spare = spares.apply(layer, group);
        for (Projection.Part part : group.parts()) {
          String name = ParameterNames.weight(layer, part.module());
          builder.matrix(name, part.out(), group.in(), spare.stride());
        }
        builder.skip(spare.rows() * spare.stride());
      }
    }
    if (!c.tiedHead()) {
      builder.align().matrix(ParameterNames.HEAD, c.vocabularySize(), c.hiddenSize());
    }
    for (int layer = 0; layer < c.layers(); layer++) {
      layerVectors(builder, c, layer);
    }
    norm(builder, c, c.modules().finalNorm(), c.hiddenSize());
    if (c.ends().headBias()) {
      builder.align().vector(ParameterNames.HEAD_BIAS, c.vocabularySize());
    }
    return builder.build();
  }

  private static void layerVectors(Layout.Builder builder, ModelConfig c, int layer) {
    for (String norm : layerNorms(c)) {
      norm(builder, c, ParameterNames.module(layer, norm), c.hiddenSize());
    }
    if (c.attention().queryKeyNorm()) {
      norm(builder, c, ParameterNames.module(layer, c.modules().queryNorm()), c.headDim());
      norm(builder, c, ParameterNames.module(layer, c.modules().keyNorm()), c.headDim());
    }
    for (Projection.Group group : groups(c)) {
      if (group.bias()) {
        builder.align();
        for (Projection.Part part : group.parts()) {
          builder.vector(ParameterNames.bias(layer, part.module()), part.out());
        }
      }
    }
  }

  private static void norm(Layout.Builder builder, ModelConfig c, String module, int width) {
    builder.align().vector(module + ".weight", width);
    if (c.norms().kind() == NormKind.LAYER) {
      builder.align().vector(module + ".bias", width);
    }
  }

  private static List<String> layerNorms(ModelConfig c) {
    Modules m = c.modules();
    List<String> norms = new ArrayList<>();
    norms.add(m.inputNorm());
    if (!c.feedForward().parallel()) {
      norms.add(m.feedForwardNorm());
    }
    if (c.norms().after()) {
      norms.add(m.attentionAfterNorm());
      norms.add(m.feedForwardAfterNorm());
    }
    return norms;
  }

  /** The projections of a layer in the order it runs them, grouped by the GEMM that makes them. */
  static List<Projection.Group> groups(ModelConfig c) {
    Modules m = c.modules();
    int f = c.feedForwardSize();
    return List.of(
        new Projection.Group(
            c.hiddenSize(),
            parts(m.attentionIn(), List.of(c.queryWidth(), c.kvWidth(), c.kvWidth())),
            c.attention().inputBias()),
        new Projection.Group(
            c.queryWidth(),
            parts(List.of(m.attentionOut()), List.of(c.hiddenSize())),
            c.attention().outputBias()),
        new Projection.Group(
            c.hiddenSize(),
            parts(m.feedForwardIn(), c.feedForward().gated() ? List.of(f, f) : List.of(f)),
            c.feedForward().bias()),
        new Projection.Group(
            f,
            parts(List.of(m.feedForwardOut()), List.of(c.hiddenSize())),
            c.feedForward().bias()));
  }

  /** One module for each width, or one for all of them. */
  private static List<Projection.Part> parts(List<String> modules, List<Integer> widths) {
    if (modules.size() == 1) {
      int all = widths.stream().mapToInt(Integer::intValue).sum();
      return List.of(new Projection.Part(modules.get(0), all));
    }
    List<Projection.Part> parts = new ArrayList<>();
    for (int i = 0; i < modules.size(); i++) {
      parts.add(new Projection.Part(modules.get(i), widths.get(i)));
    }
    return parts;
  }

  /** The weight of each projection by its module's full name. */
  static Map<String, Parameter> projections(ModelConfig c) {
    Layout layout = of(c);
    Map<String, Parameter> projections = new LinkedHashMap<>();
    for (int layer = 0; layer < c.layers(); layer++) {
      for (Projection.Group group : groups(c)) {
        for (Projection.Part part : group.parts()) {
          projections.put(
              ParameterNames.module(layer, part.module()),
              layout.parameter(ParameterNames.weight(layer, part.module())));
        }
      }
    }
    return projections;
  }
}
