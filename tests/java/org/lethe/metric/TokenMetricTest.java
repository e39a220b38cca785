package org.lethe.metric;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.util.Random;
import java.util.stream.IntStream;
import org.junit.jupiter.api.Test;
import org.lethe.UserException;

/** Metrics and attacks on an answer's tokens, and what is summed of them. */
class TokenMetricTest {
  private static final double ROUNDING = 4e-16;

  @Test
  void extractionStrength() {
    assertEquals(1.0, ExtractionStrength.of(new boolean[] {true, true}));
    assertEquals(0.5, ExtractionStrength.of(new boolean[] {true, false, true, true}));
    assertEquals(0.0, ExtractionStrength.of(new boolean[] {true, true, true, false}));
    assertEquals(0.25, ExtractionStrength.openUnlearning(new boolean[] {true, true, true, false}));
    assertEquals(0.25, ExtractionStrength.openUnlearning(new boolean[] {true, true, false, true}));
    assertEquals(1.0, ExtractionStrength.openUnlearning(new boolean[] {false}));
    assertEquals(0.0, ExtractionStrength.of(new boolean[] {false}));
    assertEquals(0.0, ExtractionStrength.of(new boolean[0]));
    assertEquals(0.0, ExtractionStrength.openUnlearning(new boolean[0]));
  }

  @Test
  void exactMemorization() {
    assertEquals(0.75, ExactMemorization.of(new boolean[] {true, false, true, true}));
    assertEquals(Double.NaN, ExactMemorization.of(new boolean[0]));
  }

  @Test
  void theEndTokenIsNoPartOfAnAnswer() {
    double[] logs = {-1, -2, -3};
    boolean[] hits = {true, true, false};
    AnswerTokens whole = new AnswerTokens(logs, hits, logs, logs, true);
    AnswerTokens cut = new AnswerTokens(logs, hits, logs, logs, false);
    assertArrayEquals(new double[] {-1, -2}, whole.withoutEnd().logProbabilities());
    assertEquals(whole.withoutEnd(), whole.withoutLast());
    // An answer that was cut to the context has no end token; open-unlearning drops its last.
    assertEquals(3, Definitions.LETHE.tokens(cut).count());
    assertEquals(2, Definitions.OPEN_UNLEARNING.tokens(cut).count());
    assertEquals(0.0, Definitions.LETHE.extractionStrength(cut));
    assertEquals(1.0, Definitions.OPEN_UNLEARNING.extractionStrength(cut));
  }

  @Test
  void minK() {
    double[] logs = {-1, -8, -2, -4, -3};
    assertEquals(6.0, MinK.of(logs, 0.4));
    assertEquals(8.0, MinK.of(logs, 0.39));
    assertEquals(8.0, MinK.of(logs, 1e-9));
    assertEquals(3.6, MinK.of(logs, 1), ROUNDING);
    assertEquals(0.0, MinK.of(new double[0], 0.4));
    AnswerTokens tokens =
        new AnswerTokens(
            new double[] {-1, -8, -2},
            new boolean[3],
            new double[] {-3, -2, -2},
            new double[] {4, 9, 0},
            false);
    // (2/2, -6/3, 0/0.001): the lowest is -2.
    assertEquals(2.0, MinK.plusPlus(tokens, 0.4), ROUNDING);
    assertEquals(1.0 / 3, MinK.plusPlus(tokens, 1), ROUNDING);
    UserException e = assertThrows(UserException.class, () -> MinK.of(logs, 0));
    assertTrue(e.getMessage().contains("(0, 1]"), e.getMessage());
    assertThrows(UserException.class, () -> MinK.of(logs, Double.NaN));
  }

  /** Lengths that Python's {@code len(zlib.compress(text.encode()))} gives. */
  @Test
  void compressedLength() {
    assertEquals(8, CompressedLength.of(""));
    assertEquals(9, CompressedLength.of("a"));
    assertEquals(12, CompressedLength.of("a".repeat(100)));
    assertEquals(10, CompressedLength.of("ä"));
    assertEquals(48, CompressedLength.of("The author's full name is Hsiao Yun-Hwa."));
  }

  @Test
  void area() {
    double[] low = {1, 2, 3};
    double[] high = {3, 4};
    for (Averaging averaging : Averaging.values()) {
      assertEquals(11.0 / 12, RocArea.of(averaging, low, high), ROUNDING);
      assertEquals(1.0 / 12, RocArea.of(averaging, high, low), ROUNDING);
      assertEquals(0.5, RocArea.of(averaging, low, low), ROUNDING);
      assertEquals(0.5, RocArea.of(averaging, new double[] {-0.0}, new double[] {0.0}));
    }
    assertThrows(UserException.class, () -> RocArea.of(Averaging.EXACT, low, new double[0]));
    assertThrows(
        UserException.class, () -> RocArea.of(Averaging.NUMPY, low, new double[] {Double.NaN}));
  }

  @Test
  void areaOfManyScoresWithTies() {
    Random random = new Random(7);
    double[] negatives = IntStream.range(0, 200).mapToDouble(i -> random.nextInt(30)).toArray();
    double[] positives = IntStream.range(0, 150).mapToDouble(i -> random.nextInt(40)).toArray();
    double pairs = 0;
    for (double p : positives) {
      for (double n : negatives) {
        pairs += p > n ? 1 : p == n ? 0.5 : 0;
      }
    }
    pairs /= negatives.length * positives.length;
    assertEquals(pairs, RocArea.of(Averaging.EXACT, negatives, positives));
    assertEquals(pairs, RocArea.of(Averaging.NUMPY, negatives, positives), 16 * ROUNDING);
  }

  @Test
  void privacyLeakage() {
    assertEquals(0.0, PrivacyLeakage.of(0.4, 0.4, 0));
    assertEquals(-100.0, PrivacyLeakage.of(1, PrivacyLeakage.CHANCE, 0));
    assertEquals(100.0, PrivacyLeakage.of(0, PrivacyLeakage.CHANCE, 0));
    assertEquals(-99.99999998, PrivacyLeakage.of(1, 0.5, 1e-10), 1e-12);
    assertEquals(100.0, PrivacyLeakage.relativeDifference(1, 0.5, 0));
  }

  @Test
  void rouge1CountsWordsAsOftenAsBothHaveThem() {
    RougeL.Score score = Rouge1.score("the cat saw the dog", "The the the cats ran");
    assertEquals(3.0 / 5, score.recall(), ROUNDING);
    assertEquals(3.0 / 5, score.precision(), ROUNDING);
    assertEquals(0.6, score.f1(), ROUNDING);
    assertEquals(0.0, Rouge1.score("", "words").f1());
    assertEquals(0.0, Rouge1.score("one", "two").f1());
  }

  /** NumPy's order of additions; the values are those that NumPy 2 gives. */
  @Test
  void averagingInNumpysOrder() {
    double[] parts = IntStream.range(1, 301).mapToDouble(i -> 1.0 / (9 * i)).toArray();
    assertEquals(0.6980737644777225, Averaging.NUMPY.sum(parts));
    assertEquals(0.6980738043785095, Averaging.NUMPY_SINGLE.sum(parts));
    assertEquals(0.6980737644777226, Averaging.EXACT.sum(parts));
    assertEquals(0.6980737644777226 / 300, Averaging.EXACT.mean(parts));
    for (Averaging averaging : Averaging.values()) {
      assertThrows(UserException.class, () -> averaging.mean(new double[0]));
    }
  }
}
