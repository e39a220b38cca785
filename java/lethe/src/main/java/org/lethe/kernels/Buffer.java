package org.lethe.kernels;

import org.lethe.UserException;

/**
 * Memory on a device, with one owner: whoever allocated it closes it (its backend does at the
 * latest).
 *
 * <p>{@link #at} gives the 64-bit ref that ops take; refs are plain longs and {@code ref + bytes}
 * moves one along. A ref kept past {@link #close} is recognised by its generation. Host memory goes
 * in and out through {@link Staging}. Only the backend's thread may call this class.
 */
public final class Buffer implements AutoCloseable {
  private final Backend backend;
  private final long id;
  private final long bytes;
  private final String purpose;
  private final boolean onHost;
  private Object lent;
  private boolean closed;

  /**
   * @param purpose what it holds, for messages
   * @param lent whose memory it is; null when the backend allocated it
   */
  Buffer(Backend backend, long id, long bytes, String purpose, Object lent) {
    this(backend, id, bytes, purpose, lent, false);
  }

  /** The same; {@code onHost} where it is none of the device's own memory. */
  Buffer(Backend backend, long id, long bytes, String purpose, Object lent, boolean onHost) {
    this.backend = backend;
    this.id = id;
    this.bytes = bytes;
    this.purpose = purpose;
    this.lent = lent;
    this.onHost = onHost;
  }

  /** Its size. */
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

  /** Whether another library owns the memory: {@link Backend#wrap}. */
  public boolean isLent() {
    return lent != null;
  }

  /** Whether it is memory of the host that the device reaches: {@link Backend#allocateHost}. */
  public boolean isOnHost() {
    return onHost;
  }

  String purpose() {
    return purpose;
  }

  Backend backend() {
    return backend;
  }

  long id() {
    return id;
  }

  @Override
  public void close() {
    if (!closed) {
      closed = true;
      backend.release(this);
      lent = null;
    }
  }
}
