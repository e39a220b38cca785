package org.lethe;

/** The machine lacks something Lethe needs: memory, disk space, a library, a device. */
public final class EnvironmentException extends LetheException {
  private static final long serialVersionUID = 1L;

  public EnvironmentException(String message) {
    super(message, null);
  }

  public EnvironmentException(String message, Throwable cause) {
    super(message, cause);
  }
}
