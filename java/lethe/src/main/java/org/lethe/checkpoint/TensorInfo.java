package org.lethe.checkpoint;

import java.util.List;

/**
 * One tensor of a safetensors file.
 *
 * @param name unique within the file
 * @param dtype type of its elements, little-endian
 * @param shape row-major, outermost first; empty for a scalar
 * @param begin first byte, counted from the end of the header
 * @param end one past the last byte, counted from the end of the header
 */
public record TensorInfo(String name, StoredDtype dtype, List<Long> shape, long begin, long end) {
  public TensorInfo {
    shape = List.copyOf(shape);
  }

  /** Bytes the tensor takes in the file. */
  public long bytes() {
    return end - begin;
  }

  /** The product of the shape; 1 for a scalar. */
  public long elements() {
    long product = 1;
    for (long size : shape) {
      product = Math.multiplyExact(product, size);
    }
    return product;
  }
}
