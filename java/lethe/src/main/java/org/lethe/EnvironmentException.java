package org.lethe;

/** The machine lacks something Lethe needs: memory, disk space, a library, a device. */
public final class EnvironmentException extends LetheException {
  private static final long serialVersionUID = 1L;

  /** A lack; the message says what would mend it. */
  public EnvironmentException(String message) {
    super(message, null);
  }

  /** A lack that another exception showed. */
  public EnvironmentException(String message, Throwable cause) {
    super(message, cause);
  }

  /** Whether it is the device's memory, or the host's outside the heap. */
  public boolean isOutOfMemory() {
    return getCause() instanceof NativeException e && e.isOutOfMemory();
  }
}
