package org.lethe;

/** The input is wrong: the message says what, where (file, line, key) and what to do. */
public final class UserException extends LetheException {
  private static final long serialVersionUID = 1L;

  /** Wrong input; the message says what, where and what to do. */
  public UserException(String message) {
    super(message, null);
  }

  /** Wrong input that another exception showed. */
  public UserException(String message, Throwable cause) {
    super(message, cause);
  }
}
