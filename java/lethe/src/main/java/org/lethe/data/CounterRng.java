package org.lethe.data;

/**
 * A stateless, counter-based random number generator: every draw is a pure function of a seed and a
 * list of keys (epoch, row, ...), so the order of calls, the number of threads and a resumed run
 * never change a value.
 *
 * <p>The function chains SplitMix64's finaliser {@code mix} (Stafford's variant 13) with its
 * increment {@code G = 0x9E3779B97F4A7C15}:
 *
 * <pre>
 *   h0     = mix(seed + G)              the first output of SplitMix64 for that seed
 *   h(i+1) = mix((h(i) ^ key(i)) + G)
 * </pre>
 *
 * {@code mix} is a bijection, so two lists that differ only in their last key never give the same
 * bits. Not for cryptography. Any thread may call.
 */
public final class CounterRng {
  private static final long GOLDEN = 0x9E3779B97F4A7C15L;

  private CounterRng() {}

  /** 64 uniform bits. */
  public static long bits(long seed, long... keys) {
    long h = mix(seed + GOLDEN);
    for (long key : keys) {
      h = mix((h ^ key) + GOLDEN);
    }
    return h;
  }

  /**
   * A uniform integer in [0, n), without modulo bias: Lemire's multiply-and-reject on the upper 32
   * bits, where a rejected draw is replaced by {@code mix(h + G)}.
   *
   * @param n at least 1
   */
  public static int below(int n, long seed, long... keys) {
    if (n < 1) {
      throw new IllegalArgumentException("below(n) needs n >= 1, got " + n);
    }
    long threshold = (0x1_0000_0000L - n) % n;
    long h = bits(seed, keys);
    long product = (h >>> 32) * n;
    while ((product & 0xFFFF_FFFFL) < threshold) {
      h = mix(h + GOLDEN);
      product = (h >>> 32) * n;
    }
    return (int) (product >>> 32);
  }

  /** A uniform double in [0, 1), a multiple of 2^-53. */
  public static double uniform(long seed, long... keys) {
    return (bits(seed, keys) >>> 11) * 0x1p-53;
  }

  /**
   * A uniform permutation of 0 .. n-1 (Fisher-Yates; the swap at i draws with the further key i).
   */
  public static int[] permutation(int n, long seed, long... keys) {
    int[] order = new int[n];
    long inner = bits(seed, keys);
    for (int i = 0; i < n; i++) {
      int j = below(i + 1, inner, i);
      order[i] = order[j];
      order[j] = i;
    }
    return order;
  }

  private static long mix(long z) {
    long a = (z ^ (z >>> 30)) * 0xBF58476D1CE4E5B9L;
    long b = (a ^ (a >>> 27)) * 0x94D049BB133111EBL;
    return b ^ (b >>> 31);
  }
}
