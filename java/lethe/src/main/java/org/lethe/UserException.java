package org.lethe;

/** The input is wrong: the message says what, where (file, line, key) and what to do. */
public final class UserException extends LetheException {
  private static final long serialVersionUID = 1L;

  public UserException(String message) {
    super(message, null);
  }

  public UserException(String message, Throwable cause) {
    super(message, cause);
  }
}
