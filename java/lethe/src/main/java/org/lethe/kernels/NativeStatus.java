package org.lethe.kernels;

import java.nio.charset.StandardCharsets;
import org.lethe.EnvironmentException;
import org.lethe.InternalFaultException;
import org.lethe.NativeException;
import org.lethe.internal.abi.Abi;

/** The status that every call of {@code lethe.h} returns. */
final class NativeStatus {
  private NativeStatus() {}

  /** Throws what a status other than LETHE_OK says. */
  static void check(int status) {
    if (status == Abi.LETHE_OK) {
      return;
    }
    String trace = Abi.lethe_error_trace().getString(StandardCharsets.UTF_8);
    NativeException failure = new NativeException(status, name(status), trace);
    if (status == Abi.LETHE_NO_DEVICE) {
      throw new EnvironmentException(failure.getMessage(), failure);
    }
    throw failure;
  }

  private static String name(int status) {
    if (status == Abi.LETHE_INVALID_ARGUMENT) {
      return "LETHE_INVALID_ARGUMENT";
    } else if (status == Abi.LETHE_OUT_OF_BOUNDS) {
      return "LETHE_OUT_OF_BOUNDS";
    } else if (status == Abi.LETHE_OVERLAP) {
      return "LETHE_OVERLAP";
    } else if (status == Abi.LETHE_CLOSED) {
      return "LETHE_CLOSED";
    } else if (status == Abi.LETHE_OUT_OF_MEMORY) {
      return "LETHE_OUT_OF_MEMORY";
    } else if (status == Abi.LETHE_UNSUPPORTED) {
      return "LETHE_UNSUPPORTED";
    } else if (status == Abi.LETHE_NO_DEVICE) {
      return "LETHE_NO_DEVICE";
    } else if (status == Abi.LETHE_ABI_MISMATCH) {
      return "LETHE_ABI_MISMATCH";
    } else if (status == Abi.LETHE_WRONG_THREAD) {
      return "LETHE_WRONG_THREAD";
    } else if (status == Abi.LETHE_INTERNAL) {
      return "LETHE_INTERNAL";
    } else if (status == Abi.LETHE_DEVICE_LOST) {
      return "LETHE_DEVICE_LOST";
    }
    throw new InternalFaultException("status " + status + " is not in lethe.h");
  }
}
