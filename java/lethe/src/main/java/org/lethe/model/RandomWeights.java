package org.lethe.model;

import java.nio.ByteBuffer;
import java.util.List;
import java.util.Set;
import org.lethe.kernels.Dtype;

/**
 * Fresh weights for training from scratch: matrices normal with deviation 0.02, norms multiply by
 * 1, biases are 0, as Hugging Face initialises a Llama. The same seed gives the same weights
 * whatever reads them, and in whatever pieces.
 */
public final class RandomWeights implements WeightSource {
  private static final double DEVIATION = 0.02;

  private final Layout layout;
  private final float weightShift;
  private final long seed;
  private final List<String> order;

  /** Weights of a model of these sizes, by a seed. */
  public RandomWeights(ModelConfig config, long seed) {
    this.layout = Model.layout(config);
    this.weightShift = config.norms().weightShift();
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
  public void read(String name, long offset, ByteBuffer target) {
    Parameter parameter = layout.parameter(name);
    int tensor = order.indexOf(name);
    float ofVector = name.endsWith(".bias") ? 0 : 1 - weightShift;
    long first = offset / Float.BYTES;
    for (long i = first; target.hasRemaining(); i++) {
      target.putFloat(
          parameter.vector() ? ofVector : Initializer.normal(DEVIATION, seed, tensor, i));
    }
  }
}
