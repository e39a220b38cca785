package org.lethe.cuda;

import org.bytedeco.javacpp.Pointer;
import org.lethe.UserException;
import org.lethe.kernels.Backend;
import org.lethe.kernels.Buffer;

/**
 * Device memory that is the caller's and a Lethe buffer at once: either side sees what the other
 * writes, and nothing was copied.
 *
 * <p>The memory must stay valid until {@link #close}; the pointer itself is kept from the garbage
 * collector that long. Where the pointer belongs to a {@code PointerScope}, the scope may end
 * before: its memory is then freed by {@link #close}. Only the backend's thread may call it.
 */
public final class SharedMemory implements AutoCloseable {
  private final Pointer memory;
  private final Buffer buffer;
  private final boolean held;
  private boolean closed;

  /** Takes memory that {@link CudaMemory} has checked. */
  SharedMemory(Backend backend, Pointer memory, long bytes) {
    this.memory = memory;
    this.buffer = backend.wrap(memory, bytes);
    // A pointer that nobody counts is freed by its caller: a reference of ours would free it here.
    this.held = memory.referenceCount() > 0;
    if (held) {
      memory.retainReference();
    }
  }

  /** The pointer it was made from. */
  public Pointer memory() {
    if (closed) {
      throw new UserException("this shared memory was closed; share the pointer again");
    }
    return memory;
  }

  /** The same memory as ops address it; its first byte is at the pointer's position. */
  public Buffer buffer() {
    return buffer;
  }

  /** The ref of the first byte, for {@link org.lethe.kernels.Ops}. */
  public long ref() {
    return buffer.at(0);
  }

  /** Gives up the buffer and this object's hold on the pointer. */
  @Override
  public void close() {
    if (!closed) {
      closed = true;
      try {
        buffer.close();
      } finally {
        if (held) {
          memory.releaseReference();
        }
      }
    }
  }
}
