package org.lethe.train;

import java.nio.FloatBuffer;
import org.lethe.kernels.Staging;
import org.lethe.model.Model;

/** Reads an fp32 model's base weights back. */
final class Weights {
  private Weights() {}

  /** All parameters one after the other, in the order of the layout. */
  static float[] of(Model model) {
    FloatBuffer values = FloatBuffer.allocate(Math.toIntExact(model.layout().elements()));
    try (Staging staging = new Staging(1 << 16)) {
      for (String name : model.layout().parameters().keySet()) {
        model.readWeight(name, staging, piece -> values.put(piece.asFloatBuffer()));
      }
    }
    return values.array();
  }
}
