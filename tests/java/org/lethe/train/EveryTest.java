package org.lethe.train;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.util.stream.IntStream;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.ValueSource;
import org.lethe.UserException;

class EveryTest {
  private static int[] due(String text, int steps, int perEpoch) {
    Every every = Every.parse(text, "k");
    return IntStream.rangeClosed(1, steps).filter(s -> every.isDue(s, perEpoch)).toArray();
  }

  @Test
  void countsStepsAndEpochs() {
    assertEquals("[3, 6, 9]", java.util.Arrays.toString(due("3 steps", 10, 4)));
    assertEquals("[4, 8]", java.util.Arrays.toString(due("1 epoch", 10, 4)));
    assertEquals("[8]", java.util.Arrays.toString(due(" 2  Epochs ", 10, 4)));
    assertEquals(0, due("never", 10, 4).length);
    assertEquals(0, due("1 minute", 10, 4).length);
    assertEquals(Every.NEVER, Every.parse("never", "k"));
    assertEquals("10 minutes", Every.parse("10 minutes", "k").toString());
    assertEquals("1 step", Every.parse("1 steps", "k").toString());
  }

  @ParameterizedTest
  @ValueSource(
      strings = {
        "",
        "5",
        "0 steps",
        "-1 steps",
        "1.5 epochs",
        "2 weeks",
        "steps",
        "99999999999 steps"
      })
  void refusesWhatIsNoCadence(String text) {
    String message =
        assertThrows(UserException.class, () -> Every.parse(text, "checkpoint.every")).getMessage();
    assertTrue(message.startsWith("checkpoint.every is '" + text + "'"), message);
    assertTrue(message.contains("N steps, N epochs or N minutes"), message);
  }

  @Test
  void refusesWhatNeverHappens() {
    Every.parse("20 steps", "k").requireWithin(20, 4, "k");
    Every.parse("5 epochs", "k").requireWithin(20, 4, "k");
    Every.parse("500 minutes", "k").requireWithin(20, 4, "k");
    Every every = Every.parse("6 epochs", "k");
    String message =
        assertThrows(UserException.class, () -> every.requireWithin(20, 4, "evaluate.every"))
            .getMessage();
    assertTrue(message.contains("evaluate.every is '6 epochs', but the run has 20 steps"), message);
    assertFalse(every.isDue(20, 4));
  }
}
