package org.lethe.model;

import java.nio.ByteBuffer;
import java.nio.FloatBuffer;
import java.util.HashMap;
import java.util.Map;
import java.util.Set;
import org.lethe.kernels.Dtype;
import org.lethe.kernels.Staging;

/** A model's fp32 weights on the host, with adapters added to them by plain arithmetic in fp64. */
final class WeightArrays implements WeightSource {
  private final Layout layout;
  private final Map<String, float[]> values = new HashMap<>();

  WeightArrays(Model model) {
    this.layout = model.layout();
    try (Staging staging = new Staging(1 << 16)) {
      for (Parameter p : layout.parameters().values()) {
        FloatBuffer tensor = FloatBuffer.allocate(Math.toIntExact(p.elements()));
        model.readWeight(p.name(), staging, piece -> tensor.put(piece.asFloatBuffer()));
        values.put(p.name(), tensor.array());
      }
    }
  }

  /** W + Σ c·s·BA, rounded once. */
  WeightArrays plus(Map<Lora, Double> adapters) {
    Map<String, double[]> sums = new HashMap<>();
    adapters.forEach((adapter, c) -> add(adapter, c, sums));
    sums.forEach(
        (name, delta) -> {
          float[] weight = values.get(name);
          for (int i = 0; i < weight.length; i++) {
            weight[i] = (float) (weight[i] + delta[i]);
          }
        });
    return this;
  }

  private void add(Lora adapter, double coefficient, Map<String, double[]> sums) {
    float[] v = adapter.values();
    for (Parameter a : adapter.layout().parameters().values()) {
      if (!a.name().endsWith(".lora_A.weight")) {
        continue;
      }
      Parameter b = adapter.layout().parameter(a.name().replace("lora_A", "lora_B"));
      String weight =
          a.name().replace("base_model.model.", "").replace(".lora_A.weight", ".weight");
      int in = (int) a.columns();
      int rank = (int) a.rows();
      String module = weight.substring(0, weight.length() - ".weight".length());
      double scale = adapter.adapters().get(module).scale();
      double[] sum = sums.computeIfAbsent(weight, n -> new double[Math.toIntExact(b.rows() * in)]);
      for (int o = 0; o < b.rows(); o++) {
        for (int k = 0; k < rank; k++) {
          double factor = coefficient * scale * v[at(b) + o * rank + k];
          for (int i = 0; i < in; i++) {
            sum[o * in + i] += factor * v[at(a) + k * in + i];
          }
        }
      }
    }
  }

  private static int at(Parameter parameter) {
    return Math.toIntExact(parameter.offset());
  }

  @Override
  public Set<String> names() {
    return values.keySet();
  }

  @Override
  public long[] shape(String name) {
    return layout.parameter(name).shape();
  }

  @Override
  public Dtype dtype(String name) {
    return Dtype.F32;
  }

  @Override
  public void read(String name, long offset, ByteBuffer target) {
    float[] weight = values.get(name);
    for (int i = Math.toIntExact(offset / Float.BYTES); target.hasRemaining(); i++) {
      target.putFloat(weight[i]);
    }
  }
}
