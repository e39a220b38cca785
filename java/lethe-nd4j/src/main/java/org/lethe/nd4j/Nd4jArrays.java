package org.lethe.nd4j;

import java.nio.ByteBuffer;
import java.util.Arrays;
import org.bytedeco.javacpp.BytePointer;
import org.bytedeco.javacpp.FloatPointer;
import org.bytedeco.javacpp.IntPointer;
import org.bytedeco.javacpp.LongPointer;
import org.bytedeco.javacpp.Pointer;
import org.bytedeco.javacpp.ShortPointer;
import org.lethe.UserException;
import org.lethe.kernels.Backend;
import org.lethe.kernels.Buffer;
import org.lethe.kernels.Dtype;
import org.nd4j.linalg.api.buffer.DataBuffer;
import org.nd4j.linalg.api.buffer.DataType;
import org.nd4j.linalg.api.memory.MemoryWorkspace;
import org.nd4j.linalg.api.ndarray.INDArray;
import org.nd4j.linalg.api.ops.executioner.OpExecutioner;
import org.nd4j.linalg.factory.Nd4j;

/**
 * One memory seen by ND4J and by Lethe: nothing is copied, either side sees what the other writes.
 *
 * <table>
 *   <caption>Types</caption>
 *   <tr><th>ND4J</th><th>Lethe</th></tr>
 *   <tr><td>FLOAT</td><td>{@link Dtype#F32}</td></tr>
 *   <tr><td>BFLOAT16</td><td>{@link Dtype#BF16}</td></tr>
 *   <tr><td>INT32</td><td>{@link Dtype#I32}</td></tr>
 *   <tr><td>INT64</td><td>a buffer of int64, which only the draws of a sampling op are</td></tr>
 * </table>
 *
 * <p>Arrays must be dense in row-major order, which is ND4J's order 'c' without gaps: rows of a
 * matrix, slices of leading dimensions and their reshapes are, whatever their offset; columns and
 * transposes are not. Everything else is a {@link UserException} that says what to do.
 *
 * <p>Both libraries finish an op before they return, so no synchronisation is needed on one thread;
 * two threads must not write and read the same memory at once.
 */
public final class Nd4jArrays {
  private Nd4jArrays() {}

  /**
   * The memory of an array as a buffer of {@code array.length()} numbers in row-major order.
   *
   * <p>Closing the buffer leaves the array as it is. While the buffer is open the array is kept
   * from the garbage collector; it must not be closed, and the ND4J workspace that it may be
   * attached to must stay open.
   *
   * @param backend of this machine's processor; only its thread may call this
   * @throws UserException for an array that is closed, empty, not dense, of another type, or whose
   *     workspace has moved on
   */
  public static Buffer buffer(Backend backend, INDArray array) {
    return backend.wrap(memory(array), bytes(array));
  }

  /**
   * The memory of an array, at position 0, with its length in bytes as limit: what {@code
   * torch.from_blob} and other JavaCPP libraries take. The pointer keeps the array from the garbage
   * collector; the rest is as for {@link #buffer}.
   */
  public static Pointer memory(INDArray array) {
    requireUsable(array);
    return new ArrayMemory(array);
  }

  /**
   * An array over host memory, from the pointer's position on, dense in row-major order.
   *
   * <p>A pointer that frees its memory when it is collected is kept as long as the array. Memory
   * that something else owns (another array, a tensor, a bare address) must be kept valid by the
   * caller. Closing the array does not free it.
   *
   * @param memory aligned to the size of a number
   * @param type FLOAT, BFLOAT16, INT32 or INT64
   * @param shape extents of at least 1
   * @throws UserException when the memory is null, too small or misaligned, the type another, or an
   *     extent below 1
   */
  public static INDArray array(Pointer memory, DataType type, long... shape) {
    requireHostBackend();
    requireType(type, "the type asked for");
    long elements = 1;
    for (long extent : shape) {
      if (extent < 1) {
        throw new UserException(
            "shape " + Arrays.toString(shape) + " has no numbers; give extents of at least 1");
      }
      elements = Math.multiplyExact(elements, extent);
    }
    HostMemory first =
        new HostMemory(memory, type, Math.multiplyExact(elements, (long) type.width()));
    // ND4J picks its accessor by the pointer's class.
    Pointer typed =
        switch (type) {
          case FLOAT -> new FloatPointer(first);
          case BFLOAT16 -> new ShortPointer(first);
          case INT -> new IntPointer(first);
          default -> new LongPointer(first);
        };
    typed.capacity(elements);
    DataBuffer data = Nd4j.createBuffer(typed, elements, type);
    return Nd4j.create(data, shape, Nd4j.getStrides(shape, 'c'), 0, 'c', type);
  }

  /**
   * An array over a direct buffer, from its position on, such as {@link
   * org.lethe.kernels.Staging#bytes}; the buffer is kept as long as the array.
   *
   * @throws UserException as for {@link #array(Pointer, DataType, long...)}, and for a buffer on
   *     the heap
   */
  public static INDArray array(ByteBuffer memory, DataType type, long... shape) {
    if (!memory.isDirect()) {
      throw new UserException(
          "a buffer on the Java heap cannot be shared; use ByteBuffer.allocateDirect");
    }
    return array(new BytePointer(memory), type, shape);
  }

  /**
   * How Lethe names the type of an array.
   *
   * @throws UserException for a type that no op takes
   */
  public static Dtype dtype(INDArray array) {
    return switch (array.dataType()) {
      case FLOAT -> Dtype.F32;
      case BFLOAT16 -> Dtype.BF16;
      case INT -> Dtype.I32;
      default ->
          throw new UserException(
              name(array)
                  + " cannot be an operand; use castTo(DataType.FLOAT), BFLOAT16, or INT32 for"
                  + " indices");
    };
  }

  /** How ND4J names a type of Lethe's. */
  public static DataType dataType(Dtype dtype) {
    return switch (dtype) {
      case F32 -> DataType.FLOAT;
      case BF16 -> DataType.BFLOAT16;
      case I32 -> DataType.INT32;
    };
  }

  /** Such as "a FLOAT array of shape [2, 3]", for messages. */
  static String name(INDArray array) {
    return "a " + array.dataType() + " array of shape " + Arrays.toString(array.shape());
  }

  private static long bytes(INDArray array) {
    return array.length() * array.dataType().width();
  }

  private static void requireUsable(INDArray array) {
    requireHostBackend();
    if (array.wasClosed()) {
      throw new UserException("this INDArray was closed; hand in one that is open");
    }
    if (array.isEmpty() || array.length() == 0) {
      throw new UserException(name(array) + " has no numbers; leave the call out");
    }
    requireType(array.dataType(), name(array));
    if (!isDense(array.shape(), array.stride())) {
      throw new UserException(
          name(array)
              + " has strides "
              + Arrays.toString(array.stride())
              + ", which are not dense in row-major order; use dup('c'), and assign to copy a"
              + " result back");
    }
    requireWorkspace(array);
  }

  private static void requireType(DataType type, String what) {
    switch (type) {
      case FLOAT, BFLOAT16, INT, LONG -> {}
      default ->
          throw new UserException(
              what + " is " + type + "; Lethe shares FLOAT, BFLOAT16, INT32 and INT64: use castTo");
    }
  }

  private static boolean isDense(long[] shape, long[] strides) {
    long expected = 1;
    for (int i = shape.length - 1; i >= 0; i--) {
      // The stride of an extent of 1 leads nowhere.
      if (shape[i] != 1 && strides[i] != expected) {
        return false;
      }
      expected *= shape[i];
    }
    return true;
  }

  /** A workspace hands the same memory out again once its scope is over. */
  private static void requireWorkspace(INDArray array) {
    if (!array.isAttached()) {
      return;
    }
    MemoryWorkspace workspace = array.data().getParentWorkspace();
    if (!workspace.isScopeActive()
        || workspace.getGenerationId() != array.data().getGenerationId()) {
      throw new UserException(
          name(array)
              + " belongs to the workspace "
              + workspace.getId()
              + ", whose scope is over; use detach() before it ends");
    }
  }

  private static void requireHostBackend() {
    OpExecutioner.ExecutionerType type = Nd4j.getExecutioner().type();
    if (type != OpExecutioner.ExecutionerType.NATIVE_CPU) {
      throw new UserException(
          "ND4J runs on "
              + type
              + ", whose arrays are not in host memory; put nd4j-native on the class path instead"
              + " of its backend");
    }
  }

  /** ND4J frees an array's memory when its buffer is collected, whoever holds a pointer to it. */
  private static final class ArrayMemory extends Pointer {
    private final INDArray array;

    ArrayMemory(INDArray array) {
      // The first number of this array: data().pointer() may be that of the array it is a view of.
      super(array.data().addressPointer());
      this.array = array;
      position = 0;
      limit = bytes(array);
      capacity = limit;
    }

    @Override
    public int sizeof() {
      return 1;
    }

    @Override
    public String toString() {
      return "memory of " + name(array);
    }
  }

  /** The bytes that an array is to stand on, from 0. */
  private static final class HostMemory extends Pointer {
    HostMemory(Pointer memory, DataType type, long bytes) {
      super(memory);
      if (memory.isNull()) {
        throw new UserException("the memory is null; hand in memory that is allocated");
      }
      long offset = memory.position() * memory.sizeof();
      long available = memory.limit() * memory.sizeof() - offset;
      // A pointer made from a bare address says 0: then only the caller knows how much there is.
      if (memory.limit() > 0 && bytes > available) {
        throw new UserException(
            bytes + " bytes are to be used of memory that has " + available + "; give fewer");
      }
      address += offset;
      if (address % type.width() != 0) {
        throw new UserException(
            "the memory is not aligned to the "
                + type.width()
                + " bytes of a "
                + type
                + "; copy it to where it is");
      }
      position = 0;
      limit = bytes;
      capacity = bytes;
    }

    @Override
    public int sizeof() {
      return 1;
    }
  }
}
