package org.lethe;

/** A call across the C boundary failed. */
public final class NativeException extends LetheException {
  private static final long serialVersionUID = 1L;

  private final int status;
  private final String name;
  private final String trace;

  /**
   * @param status a {@code lethe_status} of {@code lethe.h}, never {@code LETHE_OK}
   * @param name the status as {@code lethe.h} spells it
   * @param trace {@code lethe_error_trace()} of the failed call
   */
  public NativeException(int status, String name, String trace) {
    super(name + ": " + trace, null);
    this.status = status;
    this.name = name;
    this.trace = trace;
  }

  /** The {@code lethe_status} of the call. */
  public int status() {
    return status;
  }

  /** Whether memory ran out, on the device or off it. */
  public boolean isOutOfMemory() {
    return name.equals("LETHE_OUT_OF_MEMORY");
  }

  /** What the native side noted on its way out. */
  public String trace() {
    return trace;
  }
}
