package org.lethe.metric;

import static org.junit.jupiter.api.Assertions.assertEquals;

import java.util.ArrayList;
import java.util.Arrays;
import java.util.BitSet;
import java.util.List;
import java.util.Random;
import org.junit.jupiter.api.Test;

class ExtractionTest {
  /** A few roundings of values near 1. */
  private static final double ROUNDING = 1e-15;

  private static final BitSet NONE = new BitSet();

  private static BitSet bits(int... set) {
    BitSet bits = new BitSet();
    for (int bit : set) {
      bits.set(bit);
    }
    return bits;
  }

  @Test
  void anExampleByHand() {
    int[] ids = {1, 2, 3, 4, 5};
    // t=1: the rest 2345 has 23 34 45, said 2399 gives 23; t=2: 34 45, said 345; t=3: 45, said 91.
    List<int[]> said =
        List.of(new int[] {2, 3, 9, 9}, new int[] {3, 4, 5}, new int[] {9, 1}, new int[] {5});
    Extraction e = Extraction.of(ids, 1, said, bits(1, 2, 4), bits(2, 3), 2);
    assertEquals(3.0 / 4, e.accuracy());
    assertEquals((1.0 / 3 + 2.0 / 2 + 0.0 / 1) / 3, e.likelihood(), ROUNDING);
    assertEquals(1.0 / 2, e.sensitiveAccuracy());
    // Sensitive are tokens 3 and 4: 23 34 45 touch them at t=1 (23 said), 34 45 at t=2, 45 at t=3.
    assertEquals((1.0 / 3 + 2.0 / 2 + 0.0 / 1) / 3, e.sensitiveLikelihood(), ROUNDING);
    // Only token 5, the last: 45 alone touches it.
    Extraction last = Extraction.of(ids, 1, said, bits(1, 2, 4), bits(4), 2);
    assertEquals(1.0, last.sensitiveAccuracy());
    assertEquals((0.0 + 1 + 0) / 3, last.sensitiveLikelihood(), ROUNDING);
  }

  @Test
  void anEarlyStopIsDividedByTheTextsNgrams() {
    // Said 2 3 and no more of 2 3 4 5: one of the rest's three 2-grams, as the published code has
    // it; divided by those that were said it would be 1.
    int[] ids = {1, 2, 3, 4, 5};
    List<int[]> said =
        List.of(new int[] {2, 3}, new int[] {3, 4, 5}, new int[] {4, 5}, new int[] {5});
    assertEquals(
        (1.0 / 3 + 1 + 1) / 3, Extraction.of(ids, 1, said, NONE, NONE, 2).likelihood(), ROUNDING);
  }

  @Test
  void whatCannotBeMeasuredIsNotANumber() {
    int[] ids = {1, 2, 3};
    List<int[]> said = List.of(new int[] {2, 3}, new int[] {3});
    Extraction e = Extraction.of(ids, 1, said, NONE, NONE, 4);
    assertEquals(0.0, e.accuracy());
    assertEquals(Double.NaN, e.likelihood());
    assertEquals(Double.NaN, e.sensitiveAccuracy());
    assertEquals(Double.NaN, e.sensitiveLikelihood());
    assertEquals(Double.NaN, Extraction.of(ids, 3, List.of(), NONE, NONE, 1).accuracy());
  }

  /** The loop of the published code, with its multiplicities and denominators. */
  private static double published(int[] ids, List<int[]> said, int n) {
    int length = ids.length;
    double numerator = 0;
    for (int i = length - 1; i >= 1; i--) {
      List<String> label = grams(Arrays.copyOfRange(ids, i, length), n);
      List<String> predicted = grams(said.get(i - 1), n);
      long common = predicted.stream().filter(label::contains).count();
      if (!label.isEmpty()) {
        numerator += (double) common / label.size();
      }
    }
    return numerator / (length - 1 - (n - 1));
  }

  private static List<String> grams(int[] ids, int n) {
    List<String> grams = new ArrayList<>();
    for (int i = 0; i + n <= ids.length; i++) {
      grams.add(Arrays.toString(Arrays.copyOfRange(ids, i, i + n)));
    }
    return grams;
  }

  @Test
  void equalsTheLoopOfThePublishedCode() {
    Random random = new Random(5);
    for (int round = 0; round < 50; round++) {
      int length = 12 + random.nextInt(10);
      // Three tokens only, so that n-grams repeat.
      int[] ids = random.ints(length, 0, 3).toArray();
      List<int[]> said = new ArrayList<>();
      for (int t = 1; t < length; t++) {
        int[] tokens = random.ints(length - t, 0, 3).toArray();
        said.add(random.nextInt(4) == 0 ? Arrays.copyOf(tokens, tokens.length / 2) : tokens);
      }
      for (int n : new int[] {1, 2, 3, 10}) {
        assertEquals(
            published(ids, said, n),
            Extraction.of(ids, 1, said, NONE, NONE, n).likelihood(),
            1e-12,
            "n=" + n);
      }
    }
  }
}
