package org.lethe.train;

import static org.junit.jupiter.api.Assertions.assertEquals;

import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;

class ScheduleTest {
  // One rounding apart at most: the formulas are the same up to the order of their factors.
  private static final double TOLERANCE = 4 * Math.ulp(1.0);

  /** The multipliers of transformers' get_*_schedule_with_warmup, num_cycles 0.5. */
  private static double multiplier(Schedule schedule, int step, int warmup, int total) {
    if (step < warmup) {
      return (double) step / Math.max(1, warmup);
    }
    return switch (schedule) {
      case CONSTANT -> 1;
      case LINEAR -> Math.max(0.0, (double) (total - step) / Math.max(1, total - warmup));
      case COSINE -> {
        double progress = (double) (step - warmup) / Math.max(1, total - warmup);
        yield Math.max(0.0, 0.5 * (1.0 + StrictMath.cos(StrictMath.PI * 0.5 * 2.0 * progress)));
      }
    };
  }

  @ParameterizedTest
  @CsvSource({"0, 1", "0, 7", "3, 10", "10, 10", "12, 10", "1, 2"})
  void everyStepsRateIsThatOfTransformers(int warmup, int total) {
    for (Schedule schedule : Schedule.values()) {
      for (int step = 0; step < total; step++) {
        assertEquals(
            3e-4 * multiplier(schedule, step, warmup, total),
            schedule.rate(3e-4, step, warmup, total),
            3e-4 * TOLERANCE,
            schedule + " step " + step);
      }
    }
  }

  @Test
  void knownValues() {
    assertEquals(0, Schedule.LINEAR.rate(2, 0, 4, 12));
    assertEquals(0.5, Schedule.COSINE.rate(2, 1, 4, 12));
    assertEquals(2, Schedule.LINEAR.rate(2, 4, 4, 12));
    assertEquals(1, Schedule.LINEAR.rate(2, 8, 4, 12));
    assertEquals(1, Schedule.COSINE.rate(2, 8, 4, 12), TOLERANCE);
    assertEquals(0, Schedule.LINEAR.rate(2, 12, 4, 12));
    assertEquals(0, Schedule.COSINE.rate(2, 13, 4, 12));
    assertEquals(2, Schedule.CONSTANT.rate(2, 11, 4, 12));
  }
}
