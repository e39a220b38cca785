package org.lethe.model.quant;

import java.util.Arrays;

/**
 * The signed 8-bit map of bitsandbytes ({@code create_dynamic_map}; Dettmers 2015,
 * arXiv:1511.04561), which double quantisation uses for the scales: seven decades, the i-th with
 * 2^i values of equal steps on either side, and 0 and 1.
 */
public final class DynamicMap {
  /** Values of the map. */
  public static final int SIZE = 256;

  private static final int DECADES = 7;

  private DynamicMap() {}

  /** The values in ascending order, to the bit those of torch's fp32 {@code linspace}. */
  public static float[] values() {
    float[] map = new float[SIZE];
    map[0] = 0;
    map[1] = 1;
    int filled = 2;
    for (int decade = 0; decade < DECADES; decade++) {
      float scale = (float) Math.pow(10, decade - (DECADES - 1));
      int steps = 1 << decade;
      for (int i = 0; i < steps; i++) {
        float mean = (edge(i, steps) + edge(i + 1, steps)) / 2f;
        map[filled++] = scale * mean;
        map[filled++] = -(scale * mean);
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

  /**
   * The index of the value nearest to {@code x}, by fp32 midpoints; a tie takes the even index, as
   * the search of {@code dQuantize} in {@code csrc/kernels.cu} does, and NaN index 0.
   *
   * @param map ascending
   */
  public static int code(float[] map, float x) {
    if (!(x > map[0])) {
      return 0;
    }
    int found = Arrays.binarySearch(map, x);
    int above = found >= 0 ? found : -found - 1;
    if (above == map.length) {
      return map.length - 1;
    }
    float midpoint = (map[above - 1] + map[above]) * 0.5f;
    if (x == midpoint) {
      return above % 2 == 0 ? above : above - 1;
    }
    return x > midpoint ? above : above - 1;
  }
}
