package org.lethe.internal.cli;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;

import java.util.List;
import org.junit.jupiter.api.Test;

class ProgressTest {
  private static final long SECOND = 1_000_000_000L;

  @Test
  void plainLinesComeAtIntervalsAndAtTheEnd() {
    TestConsole console = new TestConsole(false);
    try (Progress progress = new Progress(console.console(), "unlearn", 8)) {
      for (int step = 1; step <= 8; step++) {
        console.nanos += 4 * SECOND;
        progress.update(step, 400, 2.0 / step);
      }
    }
    assertEquals(
        List.of(
            "unlearn 3/8  loss 0.6667  100 tokens/s  ETA 0:20",
            "unlearn 6/8  loss 0.3333  100 tokens/s  ETA 0:08",
            "unlearn 8/8  loss 0.2500  100 tokens/s  took 0:32"),
        console.err().lines().toList());
    assertEquals("", console.out());
  }

  @Test
  void aTerminalGetsOneLineThatIsRedrawn() {
    TestConsole console = new TestConsole(true);
    try (Progress progress = new Progress(console.console(), "tune", 4)) {
      console.nanos += SECOND / 100;
      progress.update(1, 10, 1000.5);
      console.nanos += SECOND;
      progress.update(2, 10, 1000.5);
      console.nanos += SECOND;
      progress.update(3, 10, 9);
    }
    String[] drawn = console.err().split("\r", -1);
    assertEquals(3, drawn.length);
    assertEquals(
        "tune [============            ] 2/4  loss 1000.5000  20 tokens/s  ETA 0:01", drawn[1]);
    // Three columns shorter than the line before, which it must wipe.
    assertEquals(
        "tune [==================      ] 3/4  loss 9.0000  15 tokens/s  ETA 0:01   \n", drawn[2]);
  }

  @Test
  void anUnknownLossAndNoTokensLeaveNoTrace() {
    TestConsole console = new TestConsole(false);
    try (Progress progress = new Progress(console.console(), "evaluate", 2)) {
      progress.update(1, 0, Double.NaN);
    }
    assertEquals("evaluate 1/2  ETA 0:00\n", console.err());
    new Progress(console.console(), "nothing", 2).close();
    assertThrows(IllegalArgumentException.class, () -> new Progress(console.console(), "none", 0));
    assertEquals("evaluate 1/2  ETA 0:00\n", console.err());
  }

  @Test
  void durationsAreReadable() {
    assertEquals("0:00", Progress.duration(0.4));
    assertEquals("1:05", Progress.duration(65));
    assertEquals("1:00:00", Progress.duration(3599.6));
    assertEquals("27:46:40", Progress.duration(100_000));
  }
}
