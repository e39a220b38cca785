package org.lethe.checkpoint;

import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.util.Optional;
import java.util.Set;
import org.lethe.UserException;
import org.lethe.model.Nf4Codes;

/**
 * A weight that stands quantised in a checkpoint, in several tensors; read as if it were a plain
 * one.
 */
interface QuantizedTensor {
  /** Name, type and shape of the plain weight. */
  TensorInfo info();

  /** The tensors that belong to it besides its own name. */
  Set<String> companions();

  /**
   * The plain values in fp32, which are to be rounded to {@link #info}'s type.
   *
   * @param first index of the first element wanted
   */
  float[] values(long first, int count);

  /** The codes, if they are NF4 in blocks of 64 with scales quantised in their turn or not. */
  default Optional<Nf4Codes> nf4(boolean nested) {
    return Optional.empty();
  }

  /** A tensor's bytes from {@code offset} on, all of them or none. */
  static byte[] bytes(TensorSource source, String name, long offset, int count) {
    byte[] bytes = new byte[count];
    source.readInto(name, offset, ByteBuffer.wrap(bytes));
    return bytes;
  }

  /** Numbers of an F32 tensor. */
  static float[] floats(TensorSource source, String name, long first, int count) {
    float[] values = new float[count];
    ByteBuffer.wrap(bytes(source, name, first * Float.BYTES, count * Float.BYTES))
        .order(ByteOrder.LITTLE_ENDIAN)
        .asFloatBuffer()
        .get(values);
    return values;
  }

  /**
   * Holds a companion to its type and length.
   *
   * @throws UserException naming file, tensor and what to do
   */
  static void require(
      TensorSource source, String weight, String name, StoredDtype dtype, long elements) {
    if (!source.names().contains(name)) {
      throw error(source, weight, "lacks '" + name + "'");
    }
    TensorInfo info = source.info(name);
    if (info.dtype() != dtype || info.elements() != elements) {
      throw error(
          source,
          weight,
          "needs "
              + elements
              + " numbers of type "
              + dtype
              + " in '"
              + name
              + "', which holds "
              + info.elements()
              + " of type "
              + info.dtype());
    }
  }

  /** What is wrong with a weight. */
  static UserException error(TensorSource source, String weight, String what) {
    return new UserException(
        source.file(weight)
            + ": quantised tensor '"
            + weight
            + "' "
            + what
            + "; get the file again, or quantise the model anew");
  }
}
