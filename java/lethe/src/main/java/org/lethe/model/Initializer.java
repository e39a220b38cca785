package org.lethe.model;

/**
 * Random initial values, from a counter: a value depends on the seed, its tensor and its place, and
 * on nothing else.
 */
final class Initializer {
  private Initializer() {}

  /** {@code n} values of a tensor from {@code first} on, uniform in {@code ±bound}. */
  static float[] uniform(int n, double bound, long seed, long tensor, long first) {
    float[] values = new float[n];
    for (int i = 0; i < n; i++) {
      values[i] = (float) ((2 * unit(seed, tensor, first + i) - 1) * bound);
    }
    return values;
  }

  /** Normal with the given deviation, by Box and Muller. */
  static float normal(double deviation, long seed, long tensor, long index) {
    double u = 1 - unit(seed, tensor, 2 * index);
    double v = unit(seed, tensor, 2 * index + 1);
    return (float)
        (deviation
            * StrictMath.sqrt(-2 * StrictMath.log(u))
            * StrictMath.cos(2 * StrictMath.PI * v));
  }

  /** In [0, 1), 53 bits. */
  private static double unit(long seed, long tensor, long index) {
    return (mix(mix(mix(seed) + tensor) + index) >>> 11) * 0x1.0p-53;
  }

  // The finaliser of SplitMix64 (Steele, Lea, Flood 2014) over a Weyl step.
  private static long mix(long x) {
    long z = x + 0x9e3779b97f4a7c15L;
    z = (z ^ (z >>> 30)) * 0xbf58476d1ce4e5b9L;
    z = (z ^ (z >>> 27)) * 0x94d049bb133111ebL;
    return z ^ (z >>> 31);
  }
}
