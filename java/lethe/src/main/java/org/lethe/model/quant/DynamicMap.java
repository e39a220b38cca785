package org.lethe.model.quant;

import java.util.Arrays;
import org.lethe.kernels.DynamicMaps;

/**
 * The signed 8-bit map of bitsandbytes ({@link DynamicMaps}), which double quantisation uses for
 * the scales.
 */
public final class DynamicMap {
  /** Values of the map. */
  public static final int SIZE = DynamicMaps.SIZE;

  private DynamicMap() {}

  /** The values in ascending order. */
  public static float[] values() {
    return DynamicMaps.signed();
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
