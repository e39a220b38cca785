package org.lethe.kernels;

import java.util.Arrays;

/**
 * The 8-bit maps of bitsandbytes ({@code create_dynamic_map}; Dettmers 2015, arXiv:1511.04561):
 * seven decades, the i-th with 2^i values of equal steps on either side, or 2^(i+1) on the positive
 * side alone, and 0 and 1.
 */
public final class DynamicMaps {
  /** Values of a map. */
  public static final int SIZE = 256;

  private static final int DECADES = 7;

  private DynamicMaps() {}

  /** The values of both signs in ascending order, to the bit those of torch's fp32. */
  public static float[] signed() {
    return values(true);
  }

  /** The values from 0 on in ascending order, to the bit those of torch's fp32. */
  public static float[] unsigned() {
    return values(false);
  }

  private static float[] values(boolean bothSigns) {
    float[] map = new float[SIZE];
    map[0] = 0;
    map[1] = 1;
    int filled = 2;
    for (int decade = 0; decade < DECADES; decade++) {
      float scale = (float) Math.pow(10, decade - (DECADES - 1));
      int steps = bothSigns ? 1 << decade : 2 << decade;
      for (int i = 0; i < steps; i++) {
        float mean = (edge(i, steps) + edge(i + 1, steps)) / 2f;
        map[filled++] = scale * mean;
        if (bothSigns) {
          map[filled++] = -(scale * mean);
        }
      }
    }
    Arrays.sort(map);
    return map;
  }

  /** torch counts the second half back from the end, and multiplies and adds in one rounding. */
  private static float edge(int i, int steps) {
    float step = (1f - 0.1f) / steps;
    return i < (steps + 1) / 2 ? Math.fma(step, i, 0.1f) : Math.fma(-step, steps - i, 1f);
  }
}
