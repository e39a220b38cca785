package org.lethe.cuda;

import org.bytedeco.javacpp.BytePointer;
import org.bytedeco.javacpp.FloatPointer;
import org.bytedeco.javacpp.Pointer;
import org.lethe.UserException;
import org.lethe.kernels.Backend;

/**
 * Device memory of others as Lethe's buffers, and Lethe's buffers as pointers; nothing is ever
 * copied. Only the backend's thread may call it.
 */
public final class CudaMemory {
  private CudaMemory() {}

  /**
   * Device memory of the caller's as a buffer.
   *
   * @param backend on the memory's device
   * @param memory from its position on
   * @param bytes how much of it is used, at least 1; checked where the pointer has a limit, which
   *     one filled by {@code cudaMalloc} has not
   */
  public static SharedMemory share(Backend backend, Pointer memory, long bytes) {
    if (memory == null || memory.isNull()) {
      throw new UserException("the memory is null; allocate it with cudaMalloc first");
    }
    return new SharedMemory(backend, memory, bytes);
  }

  /**
   * Memory of a buffer for other CUDA code.
   *
   * @param ref where it begins ({@link org.lethe.kernels.Buffer#at})
   * @param bytes how much of it will be used
   * @return of that limit and without a deallocator: closing it frees nothing, nor does the end of
   *     a scope. Valid until the buffer is closed. An address of the device: get, put and asBuffer
   *     would read host memory there
   */
  public static BytePointer bytes(Backend backend, long ref, long bytes) {
    return new BytePointer(backend.address(ref, bytes));
  }

  /**
   * Memory of a buffer for other CUDA code that counts in fp32; otherwise as {@link #bytes}.
   *
   * @param elements how many will be used
   */
  public static FloatPointer floats(Backend backend, long ref, long elements) {
    long bytes = Math.multiplyExact(elements, Float.BYTES);
    return new FloatPointer(backend.address(ref, bytes)).capacity(elements);
  }
}
