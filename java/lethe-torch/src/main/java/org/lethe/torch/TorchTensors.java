package org.lethe.torch;

import java.util.Arrays;
import java.util.Locale;
import org.bytedeco.javacpp.Pointer;
import org.bytedeco.pytorch.Tensor;
import org.bytedeco.pytorch.TensorOptions;
import org.bytedeco.pytorch.global.torch;
import org.bytedeco.pytorch.global.torch.ScalarType;
import org.lethe.UserException;
import org.lethe.kernels.Backend;
import org.lethe.kernels.Dtype;

/**
 * libtorch's tensors as Lethe's buffers, and memory as libtorch's tensors; nothing is ever copied.
 *
 * <p>Shared can be what both sides understand: dense, contiguous, not empty, on the CPU, and of
 * fp32, bf16, int32 or int64. Anything else is a {@link UserException} that names the call which
 * makes it so; a silent copy would break the sharing that was asked for.
 */
public final class TorchTensors {
  private TorchTensors() {}

  /**
   * A tensor's memory as a buffer.
   *
   * @param backend on the CPU; the calling thread's
   * @param tensor of any shape; a view may start inside its storage
   * @return keeps the memory alive until it is closed
   */
  public static SharedTensor share(Backend backend, Tensor tensor) {
    check("the tensor", tensor);
    return new SharedTensor(backend, tensor);
  }

  /**
   * New memory for both sides, zeroed: how a buffer of Lethe's becomes a tensor.
   *
   * @param type fp32, bf16, int32 or int64
   * @param shape no extent below 1
   */
  public static SharedTensor allocate(Backend backend, ScalarType type, long... shape) {
    elements(shape);
    try (TensorOptions options = new TensorOptions(type);
        Tensor zeros = torch.zeros(shape, options)) {
      return share(backend, zeros);
    }
  }

  /**
   * Host memory as a tensor, from the pointer's position on.
   *
   * @param memory must stay valid, and reachable, as long as the tensor and its views: libtorch
   *     does not hold it
   * @param type of its elements
   * @param shape no extent below 1; row-major
   */
  public static Tensor tensor(Pointer memory, ScalarType type, long... shape) {
    long bytes = Math.multiplyExact(elements(shape), elementBytes("the tensor", type));
    long capacity = (memory.limit() - memory.position()) * memory.sizeof();
    // A pointer made from a bare address says 0: then only the caller knows how much there is.
    if (memory.limit() > 0 && bytes > capacity) {
      throw new UserException(
          String.format(
              Locale.ROOT,
              "a tensor %s of %s takes %d bytes, the memory has %d; give a smaller shape",
              Arrays.toString(shape),
              name(type),
              bytes,
              capacity));
    }
    // libtorch counts a void pointer's position in bytes. Not closed: that would free the memory.
    Pointer first = new Pointer(memory);
    first.position(memory.position() * memory.sizeof());
    try (TensorOptions options = new TensorOptions(type)) {
      return torch.from_blob(first, shape, options);
    }
  }

  /**
   * How Lethe's ops name a tensor's numbers.
   *
   * @throws UserException when they have no name for it, as for int64
   */
  public static Dtype dtype(Tensor tensor) {
    ScalarType type = tensor.scalar_type().intern();
    if (type == ScalarType.Float) {
      return Dtype.F32;
    } else if (type == ScalarType.BFloat16) {
      return Dtype.BF16;
    } else if (type == ScalarType.Int) {
      return Dtype.I32;
    }
    throw new UserException(
        "the tensor is "
            + name(type)
            + ", which Lethe's ops do not take; call to(ScalarType.Float), to(ScalarType.BFloat16)"
            + " or to(ScalarType.Int)");
  }

  /** The libtorch name of a dtype. */
  static ScalarType scalarType(Dtype dtype) {
    return switch (dtype) {
      case F32 -> ScalarType.Float;
      case BF16 -> ScalarType.BFloat16;
      case I32 -> ScalarType.Int;
    };
  }

  /** What the shape of a tensor is, for messages and comparisons. */
  static long[] shape(Tensor tensor) {
    long[] shape = new long[Math.toIntExact(tensor.dim())];
    for (int i = 0; i < shape.length; i++) {
      shape[i] = tensor.size(i);
    }
    return shape;
  }

  /**
   * Refuses a tensor whose memory cannot be shared.
   *
   * @param what begins the message
   */
  static void check(String what, Tensor tensor) {
    if (tensor.isNull() || !tensor.defined()) {
      throw new UserException(what + " is undefined; give one with values");
    }
    if (!tensor.is_cpu()) {
      throw new UserException(what + " is not in host memory; call cpu()");
    }
    if (tensor.layout().intern() != torch.Layout.Strided) {
      throw new UserException(what + " is not dense; call to_dense()");
    }
    if (tensor.numel() == 0) {
      throw new UserException(
          what + " " + Arrays.toString(shape(tensor)) + " has no elements; give at least one");
    }
    elementBytes(what, tensor.scalar_type().intern());
    if (!tensor.is_contiguous()) {
      throw new UserException(
          what + " " + Arrays.toString(shape(tensor)) + " is not contiguous; call contiguous()");
    }
    if (tensor.is_neg()) {
      throw new UserException(what + " is a view that negates what is stored; call resolve_neg()");
    }
  }

  private static long elementBytes(String what, ScalarType type) {
    if (type == ScalarType.Float || type == ScalarType.Int) {
      return 4;
    } else if (type == ScalarType.BFloat16) {
      return 2;
    } else if (type == ScalarType.Long) {
      return 8;
    }
    throw new UserException(
        what
            + " is "
            + name(type)
            + "; memory is shared as Float, BFloat16, Int or Long: call to(ScalarType.Float) or"
            + " another of them");
  }

  private static String name(ScalarType type) {
    return "of type " + type;
  }

  private static long elements(long[] shape) {
    long elements = 1;
    for (long extent : shape) {
      if (extent < 1) {
        throw new UserException(
            "a tensor " + Arrays.toString(shape) + " has no elements; give extents of at least 1");
      }
      elements = Math.multiplyExact(elements, extent);
    }
    return elements;
  }
}
