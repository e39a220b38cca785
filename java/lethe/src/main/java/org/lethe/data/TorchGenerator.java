package org.lethe.data;

/**
 * PyTorch's generator on the CPU, so that pairs drawn by published code can be drawn again: the
 * Mersenne Twister mt19937 (Matsumoto and Nishimura, 1998), seeded as its reference code and {@code
 * torch.manual_seed} do, and the remainder that {@code torch.randint} takes of each draw (pytorch,
 * {@code ATen/core/MT19937RNGEngine.h}, {@code ATen/core/DistributionsHelper.h}).
 *
 * <p>Not for new work: {@link CounterRng} needs no state. One thread at a time.
 */
public final class TorchGenerator {
  private static final int STATE = 624;
  private static final int SHIFT = 397;
  private static final int UPPER = 0x8000_0000;
  private static final int LOWER = 0x7FFF_FFFF;
  private static final int TWIST = 0x9908_B0DF;

  /** torch draws 64 bits for ranges from here on, which is not offered. */
  private static final long LARGEST = 1L << 28;

  private final int[] state = new int[STATE];
  private int next = STATE;

  /** What {@code torch.manual_seed(seed)} sets; the seed's lower 32 bits count. */
  public TorchGenerator(long seed) {
    state[0] = (int) seed;
    for (int i = 1; i < STATE; i++) {
      state[i] = 1_812_433_253 * (state[i - 1] ^ (state[i - 1] >>> 30)) + i;
    }
  }

  /**
   * What {@code torch.randint(0, n, (1,))} draws next.
   *
   * @param n from 1 up to 2^28
   */
  public int below(int n) {
    if (n < 1 || n > LARGEST) {
      throw new IllegalArgumentException("below(n) needs 1 <= n <= 2^28, got " + n);
    }
    return (int) (Integer.toUnsignedLong(bits()) % n);
  }

  /** 32 uniform bits. */
  int bits() {
    if (next == STATE) {
      twist();
      next = 0;
    }
    int y = state[next++];
    y ^= y >>> 11;
    y ^= (y << 7) & 0x9D2C_5680;
    y ^= (y << 15) & 0xEFC6_0000;
    return y ^ (y >>> 18);
  }

  private void twist() {
    for (int i = 0; i < STATE; i++) {
      int mixed = (state[i] & UPPER) | (state[(i + 1) % STATE] & LOWER);
      state[i] = state[(i + SHIFT) % STATE] ^ (mixed >>> 1) ^ ((mixed & 1) == 0 ? 0 : TWIST);
    }
  }
}
