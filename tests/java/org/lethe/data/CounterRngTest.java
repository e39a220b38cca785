package org.lethe.data;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertNotEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.util.Arrays;
import java.util.HashSet;
import java.util.Set;
import java.util.stream.IntStream;
import org.junit.jupiter.api.Test;

class CounterRngTest {
  @Test
  void withoutKeysItIsTheFirstOutputOfSplitMix64() {
    // Published vectors of SplitMix64.
    assertEquals(0xE220A8397B1DCDAFL, CounterRng.bits(0));
    assertEquals(6457827717110365317L, CounterRng.bits(1234567));
  }

  @Test
  void keysChainAsDocumented() {
    long h = CounterRng.bits(7);
    // bits(s) is mix(s + G), so one more link is bits(h ^ key).
    assertEquals(CounterRng.bits(h ^ 42), CounterRng.bits(7, 42));
    assertEquals(CounterRng.bits(CounterRng.bits(7, 42) ^ -1L), CounterRng.bits(7, 42, -1));
  }

  @Test
  void everyKeyAndItsPlaceCount() {
    assertNotEquals(CounterRng.bits(1, 2, 3), CounterRng.bits(1, 3, 2));
    assertNotEquals(CounterRng.bits(1, 2), CounterRng.bits(1, 2, 0));
    Set<Long> seen = new HashSet<>();
    for (int seed = 0; seed < 20; seed++) {
      for (int epoch = 0; epoch < 20; epoch++) {
        for (int row = 0; row < 50; row++) {
          seen.add(CounterRng.bits(seed, epoch, row));
        }
      }
    }
    assertEquals(20_000, seen.size());
  }

  @Test
  void belowIsUniform() {
    int n = 10;
    int draws = 100_000;
    int[] counts = new int[n];
    for (int i = 0; i < draws; i++) {
      counts[CounterRng.below(n, 5, i)]++;
    }
    double expected = draws / (double) n;
    double chiSquare =
        Arrays.stream(counts).mapToDouble(c -> (c - expected) * (c - expected) / expected).sum();
    // The 99.99 % point of chi-square with 9 degrees of freedom.
    assertTrue(chiSquare < 33.7, "chi-square " + chiSquare);
  }

  @Test
  void belowHasNoModuloBias() {
    // With n = 3 * 2^29 a plain modulo of 32 bits would hit the lower 2^30 values half as often
    // again.
    int n = 3 << 29;
    int low = 0;
    int draws = 60_000;
    for (int i = 0; i < draws; i++) {
      int value = CounterRng.below(n, 11, i);
      assertTrue(value >= 0 && value < n);
      low += value < 1 << 30 ? 1 : 0;
    }
    // Five standard deviations of a binomial with p = 2/3.
    double sigma = Math.sqrt(draws * (2.0 / 3) * (1.0 / 3));
    assertEquals(draws * 2.0 / 3, low, 5 * sigma);
  }

  @Test
  void belowOneIsZeroAndBelowZeroIsRefused() {
    assertEquals(0, CounterRng.below(1, 3, 4));
    assertThrows(IllegalArgumentException.class, () -> CounterRng.below(0, 3));
  }

  @Test
  void uniformStaysInTheUnitIntervalWithTheRightMoments() {
    int draws = 100_000;
    double sum = 0;
    double squares = 0;
    for (int i = 0; i < draws; i++) {
      double u = CounterRng.uniform(9, i);
      assertTrue(u >= 0 && u < 1);
      sum += u;
      squares += u * u;
    }
    // Five standard errors: sd(u) = 0.2887, sd(u^2) = 0.2981.
    assertEquals(0.5, sum / draws, 5 * 0.2887 / Math.sqrt(draws));
    assertEquals(1.0 / 3, squares / draws, 5 * 0.2981 / Math.sqrt(draws));
  }

  @Test
  void neighbouringKeysAreUncorrelated() {
    int draws = 100_000;
    double sum = 0;
    for (int i = 0; i < draws; i++) {
      sum += (CounterRng.uniform(2, i) - 0.5) * (CounterRng.uniform(2, i + 1) - 0.5);
    }
    // Each product has standard deviation 1/12.
    assertEquals(0, sum / draws, 5.0 / 12 / Math.sqrt(draws));
  }

  @Test
  void theOrderOfCallsIsIrrelevant() {
    long[] forwards = new long[100];
    long[] backwards = new long[100];
    for (int i = 0; i < 100; i++) {
      forwards[i] = CounterRng.bits(1, i);
    }
    for (int i = 99; i >= 0; i--) {
      backwards[i] = CounterRng.bits(1, i);
    }
    assertArrayEquals(forwards, backwards);
    long[] parallel =
        IntStream.range(0, 100).parallel().mapToLong(i -> CounterRng.bits(1, i)).toArray();
    assertArrayEquals(forwards, parallel);
  }

  @Test
  void permutationsAreCompleteAndUniform() {
    assertEquals(0, CounterRng.permutation(0, 1).length);
    int[] sorted = CounterRng.permutation(1000, 4, 2);
    Arrays.sort(sorted);
    assertArrayEquals(IntStream.range(0, 1000).toArray(), sorted);
    int[][] counts = new int[4][4];
    int draws = 12_000;
    for (int draw = 0; draw < draws; draw++) {
      int[] order = CounterRng.permutation(4, 8, draw);
      for (int i = 0; i < 4; i++) {
        counts[i][order[i]]++;
      }
    }
    double sigma = Math.sqrt(draws * 0.25 * 0.75);
    for (int[] row : counts) {
      for (int count : row) {
        assertEquals(draws / 4.0, count, 5 * sigma);
      }
    }
  }
}
