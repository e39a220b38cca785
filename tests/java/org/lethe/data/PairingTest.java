package org.lethe.data;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.util.Arrays;
import java.util.HashSet;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.stream.IntStream;
import org.junit.jupiter.api.Test;
import org.lethe.UserException;

class PairingTest {
  private static final int ROWS = 40;
  private static final int RETAIN = 360;

  private static int[] partners(Pairing pairing, int epoch) {
    return IntStream.range(0, ROWS).map(row -> pairing.retainRow(epoch, row)).toArray();
  }

  @Test
  void freshPartnersChangeWithSeedAndEpoch() {
    Pairing one = new Pairing(Pairing.Kind.FRESH, 1, RETAIN, 72);
    Pairing two = new Pairing(Pairing.Kind.FRESH, 2, RETAIN, 72);
    assertArrayEquals(partners(one, 0), partners(one, 0));
    assertFalse(Arrays.equals(partners(one, 0), partners(one, 1)));
    assertFalse(Arrays.equals(partners(one, 0), partners(two, 0)));
  }

  @Test
  void freshPartnersReachTheWholeRetainSet() {
    Pairing pairing = new Pairing(Pairing.Kind.FRESH, 3, RETAIN, 72);
    Set<Integer> seen = new HashSet<>();
    for (int epoch = 0; epoch < 100; epoch++) {
      for (int partner : partners(pairing, epoch)) {
        assertTrue(partner >= 0 && partner < RETAIN);
        seen.add(partner);
      }
    }
    // 4000 draws leave a given one of 360 out with probability 1.5e-5.
    assertEquals(RETAIN, seen.size());
  }

  @Test
  void fixedPartnersDependOnTheRowAlone() {
    Pairing one = new Pairing(Pairing.Kind.FIXED, 1, RETAIN, 72);
    Pairing two = new Pairing(Pairing.Kind.FIXED, 2, RETAIN, 72);
    assertArrayEquals(partners(one, 0), partners(one, 7));
    assertArrayEquals(partners(one, 0), partners(two, 3));
    assertEquals(one.refusal(0, 5), two.refusal(9, 5));
    assertTrue(Arrays.stream(partners(one, 0)).distinct().count() > ROWS / 2);
  }

  /**
   * The first partners of the published code, recorded from torch 2.13: {@code
   * torch.manual_seed(i)}, {@code (i + randint(0, rows)) % rows}, {@code randint(0, 100)}.
   */
  @Test
  void closerLooksPartnersAreThoseOfItsCode() {
    Map<Integer, List<Integer>> published =
        Map.of(
            3960, List.of(1484, 3686, 2810, 2509, 2654),
            3800, List.of(3644, 46, 850, 3189, 3334),
            3600, List.of(44, 2246, 650, 1789, 1934),
            400, List.of(44, 246, 250, 189, 334));
    published.forEach(
        (rows, partners) -> {
          Pairing pairing = new Pairing(Pairing.Kind.CLOSER_LOOK, 9, rows, 100);
          for (int i = 0; i < partners.size(); i++) {
            assertEquals(partners.get(i), pairing.retainRow(i, i), rows + " rows, row " + i);
          }
        });
    Pairing pairing = new Pairing(Pairing.Kind.CLOSER_LOOK, 9, 3960, 100);
    assertEquals(
        List.of(39, 39, 87, 48, 94),
        IntStream.range(0, 5).map(i -> pairing.refusal(3, i)).boxed().toList());
    // How many distinct retain rows its three forget sets ever meet.
    Map<Integer, int[]> met = Map.of(40, new int[] {3960, 40}, 200, new int[] {3800, 195});
    met.forEach(
        (forget, expected) -> {
          Pairing p = new Pairing(Pairing.Kind.CLOSER_LOOK, 9, expected[0], 100);
          long distinct = IntStream.range(0, forget).map(i -> p.retainRow(0, i)).distinct().count();
          assertEquals(expected[1], distinct);
        });
  }

  /** The reference code's first outputs for seed 5489, and its ten thousandth (C++ standard). */
  @Test
  void torchsGeneratorIsTheMersenneTwister() {
    TorchGenerator generator = new TorchGenerator(5489);
    assertEquals(3_499_211_612L, Integer.toUnsignedLong(generator.bits()));
    for (int i = 2; i < 10_000; i++) {
      generator.bits();
    }
    assertEquals(4_123_659_995L, Integer.toUnsignedLong(generator.bits()));
    assertThrows(IllegalArgumentException.class, () -> generator.below(0));
    assertThrows(IllegalArgumentException.class, () -> generator.below((1 << 28) + 1));
  }

  @Test
  void refusalsAreDrawnApartFromPartners() {
    Pairing pairing = new Pairing(Pairing.Kind.FRESH, 1, 72, 72);
    int equal = 0;
    for (int row = 0; row < 500; row++) {
      equal += pairing.retainRow(0, row) == pairing.refusal(0, row) ? 1 : 0;
    }
    // About 500 / 72 = 7 by chance.
    assertTrue(equal < 30, equal + " equal draws");
  }

  @Test
  void everyEpochHasItsOwnCompleteOrder() {
    Pairing pairing = new Pairing(Pairing.Kind.FIXED, 1, RETAIN, 72);
    int[] order = pairing.order(ROWS, 0);
    assertFalse(Arrays.equals(order, pairing.order(ROWS, 1)));
    assertArrayEquals(order, pairing.order(ROWS, 0));
    Arrays.sort(order);
    assertArrayEquals(IntStream.range(0, ROWS).toArray(), order);
  }

  @Test
  void emptySetsAreNamed() {
    Pairing pairing = new Pairing(Pairing.Kind.FRESH, 1, 0, 0);
    assertTrue(
        assertThrows(UserException.class, () -> pairing.retainRow(0, 0))
            .getMessage()
            .contains("retain set is empty"));
    assertTrue(
        assertThrows(UserException.class, () -> pairing.refusal(0, 0))
            .getMessage()
            .contains("no refusal lines"));
  }
}
