package org.lethe.torch;

import org.bytedeco.pytorch.Tensor;
import org.lethe.UserException;
import org.lethe.kernels.Backend;
import org.lethe.kernels.Buffer;

/**
 * Memory that is a libtorch tensor and a Lethe buffer at once: either side sees what the other
 * writes, and nothing was copied.
 *
 * <p>Holds a reference of its own to the tensor's storage, so the memory stays valid until {@link
 * #close}, whatever becomes of the tensor it was made from. What Lethe writes, autograd does not
 * know of: do not overwrite a tensor that a backward pass still needs. Only the backend's thread
 * may call it.
 */
public final class SharedTensor implements AutoCloseable {
  private final Tensor tensor;
  private final Buffer buffer;
  private boolean closed;

  /** Takes a tensor that {@link TorchTensors} has checked. */
  SharedTensor(Backend backend, Tensor checked) {
    // A second handle on the same storage.
    this.tensor = Ownership.own(() -> new Tensor(checked));
    try {
      this.buffer = backend.wrap(tensor.data_ptr(), tensor.nbytes());
    } catch (RuntimeException e) {
      tensor.close();
      throw e;
    }
  }

  /** The tensor; valid until {@link #close}, and not to be closed by the caller. */
  public Tensor tensor() {
    if (closed) {
      throw new UserException("this shared tensor was closed; share the tensor again");
    }
    return tensor;
  }

  /** The same memory as ops address it; its first byte is the tensor's first element. */
  public Buffer buffer() {
    return buffer;
  }

  /** The ref of the first element, for {@link org.lethe.kernels.Ops}. */
  public long ref() {
    return buffer.at(0);
  }

  /** Gives up the buffer and this object's hold on the tensor. */
  @Override
  public void close() {
    if (!closed) {
      closed = true;
      buffer.close();
      tensor.close();
    }
  }
}
