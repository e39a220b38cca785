package org.lethe.checkpoint;

import java.util.Arrays;
import java.util.List;
import org.lethe.UserException;

/**
 * A tensor about to be written.
 *
 * @param shape row-major, outermost first; empty for a scalar
 */
public record TensorSpec(String name, StoredDtype dtype, List<Long> shape) {
  public TensorSpec {
    shape = List.copyOf(shape);
  }

  /** A spec with its shape written out. */
  public static TensorSpec of(String name, StoredDtype dtype, long... shape) {
    return new TensorSpec(name, dtype, Arrays.stream(shape).boxed().toList());
  }

  /**
   * Bytes the tensor takes.
   *
   * @throws UserException if a size is negative, the product overflows or does not end on a byte
   */
  public long bytes() {
    try {
      return byteSize(dtype, shape);
    } catch (ArithmeticException e) {
      throw new UserException(
          "tensor '" + name + "' of shape " + shape + " and type " + dtype + ": " + e.getMessage(),
          e);
    }
  }

  /**
   * Bytes of a tensor.
   *
   * @throws ArithmeticException if a size is negative, the product overflows a long or does not end
   *     on a byte
   */
  static long byteSize(StoredDtype dtype, List<Long> shape) {
    long elements = 1;
    for (long size : shape) {
      if (size < 0) {
        throw new ArithmeticException("a negative size");
      }
      elements = Math.multiplyExact(elements, size);
    }
    long bits = Math.multiplyExact(elements, (long) dtype.bits());
    if (bits % 8 != 0) {
      throw new ArithmeticException("its " + bits + " bits do not end on a byte");
    }
    return bits / 8;
  }
}
