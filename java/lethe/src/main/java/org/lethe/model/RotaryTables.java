package org.lethe.model;

import org.lethe.kernels.Arena;
import org.lethe.kernels.Dtype;
import org.lethe.kernels.Staging;

/**
 * The cosines and the sines of every position's angles, fp32, on the device: a row a position, the
 * tables of {@link Rotary} one after the other.
 */
final class RotaryTables {
  private final ModelConfig config;
  private final Arena arena;
  private final long cos;
  private final long sin;

  /** Reserves their memory. */
  RotaryTables(Arena arena, ModelConfig config) {
    this.config = config;
    this.arena = arena;
    long angles = config.rotaryRows() * (config.rotary().width() / 2);
    this.cos = arena.reserve(angles, Dtype.F32);
    this.sin = arena.reserve(angles, Dtype.F32);
  }

  // Angles are rounded to fp32 where Hugging Face rounds them, so that positions turn by the same.
  void write() {
    Rotary rotary = config.rotary();
    int half = rotary.width() / 2;
    float[] cosines = new float[half];
    float[] sines = new float[half];
    long row = 0;
    try (Staging staging = new Staging(half * Float.BYTES)) {
      for (int table = 0; table < rotary.tables(); table++) {
        float[] frequencies = rotary.frequencies(table);
        for (int position = 0; position < config.contextLength(); position++, row++) {
          for (int j = 0; j < half; j++) {
            float angle = position * frequencies[j];
            cosines[j] = (float) StrictMath.cos(angle) * rotary.attentionFactor();
            sines[j] = (float) StrictMath.sin(angle) * rotary.attentionFactor();
          }
          long at = row * half * Float.BYTES;
          staging.upload(cosines, half, arena.buffer(), cos + at);
          staging.upload(sines, half, arena.buffer(), sin + at);
        }
      }
    }
  }

  /** The ref of the cosines. */
  long cos() {
    return arena.at(cos);
  }

  /** The ref of the sines. */
  long sin() {
    return arena.at(sin);
  }
}
