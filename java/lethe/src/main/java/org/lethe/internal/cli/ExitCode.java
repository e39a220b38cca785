package org.lethe.internal.cli;

import org.lethe.EnvironmentException;
import org.lethe.InternalFaultException;
import org.lethe.NativeException;
import org.lethe.StoppedException;
import org.lethe.UserException;

/** What the process answers with. */
final class ExitCode {
  static final int OK = 0;
  static final int INTERNAL = 1;
  static final int USER = 2;
  static final int ENVIRONMENT = 3;
  static final int STOPPED = 4;

  private ExitCode() {}

  static int of(Throwable failure) {
    if (failure instanceof UserException) {
      return USER;
    }
    if (failure instanceof StoppedException) {
      return STOPPED;
    }
    if (failure instanceof EnvironmentException || failure instanceof OutOfMemoryError) {
      return ENVIRONMENT;
    }
    if (failure instanceof NativeException e) {
      return e.isOutOfMemory() ? ENVIRONMENT : INTERNAL;
    }
    return INTERNAL;
  }

  /** One message that says what happened and what to do. */
  static String message(Throwable failure) {
    if (failure instanceof OutOfMemoryError) {
      return "the Java heap is full ("
          + failure.getMessage()
          + "); give it more by LETHE_JAVA_OPTS=-Xmx4g";
    }
    if (failure instanceof UserException
        || failure instanceof StoppedException
        || failure instanceof EnvironmentException
        || failure instanceof InternalFaultException) {
      return failure.getMessage();
    }
    if (failure instanceof NativeException) {
      return "a native call failed: " + failure.getMessage();
    }
    return "unexpected "
        + failure
        + "; this is a fault in Lethe, please report it with the output of --stacktrace";
  }
}
