package org.lethe.kernels;

import org.lethe.InternalFaultException;

/**
 * One allocation that holds many tensors: reserved first, allocated once. Sizes are known before
 * the first step, so a run that starts does not run out of memory later. One thread at a time.
 */
public final class Arena implements AutoCloseable {
  private static final long ALIGNMENT = 64;

  private final Backend backend;
  private final String purpose;
  private long bytes;
  private Buffer buffer;

  /**
   * An arena that holds nothing yet.
   *
   * @param backend whose memory it takes; null for one that only counts
   */
  public Arena(Backend backend) {
    this(backend, Backend.OTHER);
  }

  /**
   * The same, by a name that a message about memory can use.
   *
   * @param purpose what it will hold, such as "weights"
   */
  public Arena(Backend backend, String purpose) {
    this.backend = backend;
    this.purpose = purpose;
  }

  /** The byte offset of {@code elements} numbers of {@code dtype}, 64-byte aligned. */
  public long reserve(long elements, Dtype dtype) {
    return reserveBytes(Math.multiplyExact(elements, (long) dtype.bytes()));
  }

  /** The byte offset of {@code size} bytes, 64-byte aligned. */
  public long reserveBytes(long size) {
    if (buffer != null) {
      throw new InternalFaultException("an arena was asked for more after it was allocated");
    }
    long offset = bytes;
    bytes = Math.addExact(bytes, Math.addExact(size, ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT);
    return offset;
  }

  /** Bytes reserved so far: what {@link #allocate} will take. */
  public long bytes() {
    return bytes;
  }

  /**
   * Takes the memory of all that was reserved, zeroed; answers itself. Nothing when it only counts.
   *
   * @throws org.lethe.EnvironmentException when there is not so much; it says what was asked and
   *     what is free
   */
  public Arena allocate() {
    if (!counts()) {
      buffer = backend.allocate(Math.max(bytes, ALIGNMENT), purpose);
    }
    return this;
  }

  /** Whether it takes no memory and only says how much there would be. */
  public boolean counts() {
    return backend == null;
  }

  /** The ref of a reserved offset. */
  public long at(long offset) {
    return buffer.at(offset);
  }

  /** The one allocation; null before {@link #allocate}. */
  public Buffer buffer() {
    return buffer;
  }

  @Override
  public void close() {
    if (buffer != null) {
      buffer.close();
    }
  }
}
