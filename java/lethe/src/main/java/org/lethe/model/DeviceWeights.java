package org.lethe.model;

import java.nio.ByteBuffer;
import java.util.List;
import java.util.Set;
import org.lethe.kernels.Dtype;
import org.lethe.kernels.Ops;

/**
 * Random weights that are made where they are used: a model of billions of parameters is there in a
 * moment. The same numbers on every device but for the last bits ({@link Ops#randomNormal}), with
 * the deviations of {@link RandomWeights}.
 */
public final class DeviceWeights implements WeightSource {
  private static final float DEVIATION = 0.02f;

  private final Layout layout;
  private final RandomWeights vectors;
  private final long seed;
  private final List<String> order;

  /** Weights of a model of these sizes, by a seed. */
  public DeviceWeights(ModelConfig config, long seed) {
    this.layout = Model.layout(config);
    this.vectors = new RandomWeights(config, seed);
    this.seed = seed;
    this.order = List.copyOf(layout.parameters().keySet());
  }

  @Override
  public Set<String> names() {
    return layout.parameters().keySet();
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
  public boolean write(String name, Ops ops, long target, long stride) {
    Parameter parameter = layout.parameter(name);
    if (parameter.vector()) {
      return false;
    }
    long sequence = sequence(seed, order.size(), order.indexOf(name));
    long columns = parameter.columns();
    if (stride == columns) {
      ops.randomNormal(parameter.elements(), sequence, 0, DEVIATION, target);
      return true;
    }
    for (long row = 0; row < parameter.rows(); row++) {
      long at = target + row * stride * ops.dtype().bytes();
      ops.randomNormal(columns, sequence, row * columns, DEVIATION, at);
    }
    return true;
  }

  /**
   * The sequence of normal numbers that a tensor holds, one of its own for each.
   *
   * @param tensors how many the layout has
   * @param index the tensor's place in it
   */
  public static long sequence(long seed, int tensors, int index) {
    return seed * tensors + index;
  }

  @Override
  public void read(String name, long offset, ByteBuffer target) {
    vectors.read(name, offset, target);
  }
}
