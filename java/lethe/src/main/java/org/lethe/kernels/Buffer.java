package org.lethe.kernels;

import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import org.bytedeco.javacpp.Pointer;
import org.lethe.UserException;
import org.lethe.kernels.abi.Abi;

/**
 * Memory on a device, with one owner: whoever allocated it closes it (its backend does at the
 * latest).
 *
 * <p>{@link #at} gives the 64-bit ref that ops take; refs are plain longs and {@code ref + bytes}
 * moves one along. A ref kept past {@link #close} is recognised by its generation. Only the
 * backend's thread may call this class.
 */
public final class Buffer implements AutoCloseable {
  private final Backend backend;
  private final long id;
  private final long bytes;
  private boolean closed;

  Buffer(Backend backend, long id, long bytes) {
    this.backend = backend;
    this.id = id;
    this.bytes = bytes;
  }

  public long bytes() {
    return bytes;
  }

  /** The ref of the byte at {@code offset}. */
  public long at(long offset) {
    if (closed || backend.isClosed()) {
      throw new UserException("this buffer was closed; allocate a new one");
    }
    if (offset < 0 || offset > bytes) {
      throw new UserException(
          "offset " + offset + " is outside this buffer of " + bytes + " bytes");
    }
    return id + offset;
  }

  /** Copies the remaining bytes of a direct, native-order buffer to {@code offset}. */
  public void write(long offset, ByteBuffer source) {
    try (Pointer pointer = pointer(source)) {
      Backend.check(Abi.lethe_write(backend.handle(), at(offset), pointer, source.remaining()));
    }
  }

  /**
   * Fills the remaining bytes of a direct, native-order buffer from {@code offset}; its position
   * does not move.
   */
  public void read(long offset, ByteBuffer target) {
    try (Pointer pointer = pointer(target)) {
      Backend.check(Abi.lethe_read(backend.handle(), at(offset), pointer, target.remaining()));
    }
  }

  long id() {
    return id;
  }

  @Override
  public void close() {
    if (!closed) {
      closed = true;
      backend.release(this);
    }
  }

  private static Pointer pointer(ByteBuffer host) {
    if (!host.isDirect() || host.order() != ByteOrder.nativeOrder()) {
      throw new UserException(
          "the host buffer must be direct and in native byte order; use"
              + " ByteBuffer.allocateDirect(n).order(ByteOrder.nativeOrder())");
    }
    Pointer pointer = new Pointer(host);
    return pointer;
  }
}
