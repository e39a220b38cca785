package org.lethe.torch;

import java.nio.ByteBuffer;
import java.util.Set;
import org.lethe.kernels.Dtype;
import org.lethe.model.WeightSource;

/** Matrices of a generator times a factor, so that predictions are far from uniform. */
record Widened(WeightSource source) implements WeightSource {
  private static final float FACTOR = 6;

  @Override
  public Set<String> names() {
    return source.names();
  }

  @Override
  public long[] shape(String name) {
    return source.shape(name);
  }

  @Override
  public Dtype dtype(String name) {
    return source.dtype(name);
  }

  @Override
  public void read(String name, long offset, ByteBuffer target) {
    int first = target.position();
    source.read(name, offset, target);
    boolean matrix = shape(name).length == 2;
    for (int at = first; at < target.position(); at += Float.BYTES) {
      target.putFloat(
          at, matrix ? FACTOR * target.getFloat(at) : target.getFloat(at) + 0.1f * (at % 3));
    }
  }
}
