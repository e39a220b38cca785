package org.lethe.model;

import java.nio.ByteBuffer;
import java.util.Optional;
import java.util.Set;
import org.lethe.kernels.Dtype;
import org.lethe.kernels.Ops;

/**
 * Where a model's weights come from: a file, or a generator. Names and shapes are Hugging Face's.
 */
public interface WeightSource {
  /** A hash of the weights as they are stored; empty for those that are stored nowhere. */
  default Optional<String> hash() {
    return Optional.empty();
  }

  /** Where they are stored, for messages. */
  default String place() {
    return "the weights";
  }

  /** The names of all tensors. */
  Set<String> names();

  /** A tensor's shape. */
  long[] shape(String name);

  /** {@link Dtype#F32} or {@link Dtype#BF16}. */
  Dtype dtype(String name);

  /**
   * Writes a tensor straight into the device's memory, in the storage of {@code ops}.
   *
   * @param target the ref of its first element
   * @param stride elements there from row to row
   * @return false when it is to be had from {@link #read} alone
   */
  default boolean write(String name, Ops ops, long target, long stride) {
    return false;
  }

  /**
   * A tensor that is stored as 4-bit NormalFloat codes in blocks of 64, with scales quantised in
   * their turn or not, as {@code nested} asks; empty for any other.
   */
  default Optional<Nf4Codes> nf4(String name, boolean nested) {
    return Optional.empty();
  }

  /** Fills the remaining bytes of a little-endian buffer from byte {@code offset} of the tensor. */
  void read(String name, long offset, ByteBuffer target);
}
