package org.lethe;

/** A fault in Lethe itself: something that its own code rules out has happened. */
public final class InternalFaultException extends LetheException {
  private static final long serialVersionUID = 1L;

  /** A fault; the message asks for a report. */
  public InternalFaultException(String message) {
    super(
        message + "; this is a fault in Lethe, please report it with the command that led here",
        null);
  }

  /** A fault that another exception showed. */
  public InternalFaultException(String message, Throwable cause) {
    super(
        message + "; this is a fault in Lethe, please report it with the command that led here",
        cause);
  }
}
