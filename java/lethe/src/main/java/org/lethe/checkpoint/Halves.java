package org.lethe.checkpoint;

import java.nio.FloatBuffer;
import java.nio.file.Path;
import org.lethe.UserException;

/** Guards the one storage type that cannot hold what the others can. */
final class Halves {
  /** From here on, rounding to nearest gives infinity: the midpoint behind the largest half. */
  private static final float OVERFLOWS = 65520f;

  private Halves() {}

  /**
   * Refuses finite values that F16 would turn into infinity.
   *
   * @param values from the position on; nothing to do for other types
   * @throws UserException naming target and tensor
   */
  static void requireRange(Path target, String tensor, StoredDtype dtype, FloatBuffer values) {
    if (dtype != StoredDtype.F16) {
      return;
    }
    while (values.hasRemaining()) {
      float value = values.get();
      if (Math.abs(value) >= OVERFLOWS && Float.isFinite(value)) {
        throw new UserException(
            target
                + ": tensor '"
                + tensor
                + "' holds "
                + value
                + ", more than fp16 can hold (65504); write bf16 or fp32");
      }
    }
  }
}
