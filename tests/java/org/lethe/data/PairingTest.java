package org.lethe.data;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.util.Arrays;
import java.util.HashSet;
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
