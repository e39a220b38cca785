package org.lethe.config;

import static org.junit.jupiter.api.Assertions.assertEquals;

import java.util.List;
import java.util.Optional;
import org.junit.jupiter.api.Test;

class NearestTest {
  @Test
  void distancesCountEdits() {
    assertEquals(0, Nearest.distance("rank", "rank"));
    assertEquals(4, Nearest.distance("", "rank"));
    assertEquals(4, Nearest.distance("rank", ""));
    assertEquals(1, Nearest.distance("rnak", "rank"));
    assertEquals(1, Nearest.distance("ran", "rank"));
    assertEquals(3, Nearest.distance("kitten", "sitting"));
  }

  @Test
  void onlyACloseNameIsSuggested() {
    List<String> known = List.of("alpha", "rank", "targets");
    assertEquals(Optional.of("rank"), Nearest.of("Ranc", known));
    assertEquals(Optional.of("targets"), Nearest.of("target", known));
    assertEquals(Optional.empty(), Nearest.of("dropout", known));
    assertEquals(Optional.empty(), Nearest.of("xy", List.of("ab")));
    assertEquals("; did you mean alpha?", Nearest.hint("alhpa", known));
    assertEquals("; known: alpha, rank, targets", Nearest.hint("dropout", known));
  }
}
