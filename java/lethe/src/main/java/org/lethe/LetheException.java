package org.lethe;

/**
 * The one exception family of Lethe. Four kinds, by who can mend what went wrong; every message
 * ends with the remedy.
 *
 * <ul>
 *   <li>{@link UserException}: the input is wrong (a file, a key, a shape, a call out of order)
 *   <li>{@link EnvironmentException}: the machine lacks something (memory, disk, a library, a
 *       device)
 *   <li>{@link NativeException}: a native call failed, with its status and trace
 *   <li>{@link InternalFaultException}: a fault in Lethe
 *   <li>{@link StoppedException}: nothing is wrong; a run stopped because it was asked to
 * </ul>
 */
public abstract sealed class LetheException extends RuntimeException
    permits UserException,
        EnvironmentException,
        NativeException,
        InternalFaultException,
        StoppedException {
  private static final long serialVersionUID = 1L;

  LetheException(String message, Throwable cause) {
    super(message, cause);
  }
}
