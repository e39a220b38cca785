package org.lethe.train;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import org.junit.jupiter.api.Test;
import org.lethe.UserException;

class TurnsTest {
  /** F0 R0 ...: the side and batch of each step. */
  private static String course(Turns turns, int steps, int batchesPerEpoch) {
    StringBuilder course = new StringBuilder();
    for (int step = 0; step < steps; step++) {
      Turns.Place place = turns.at(step, batchesPerEpoch);
      course.append(place.forget() ? "F" : "").append(place.retain() ? "R" : "");
      course.append(place.batch()).append(' ');
    }
    return course.toString().strip();
  }

  @Test
  void stepsAlternateAsAsked() {
    assertEquals("FR0 FR1 FR2 FR3", course(Turns.JOINT, 4, 3));
    assertEquals("F0 R0 F1 R1 F2", course(new Turns(Turns.Unit.STEPS, 1, 1), 5, 3));
    // k retain steps for one forget step.
    assertEquals("F0 R0 R1 R2 F1 R3 R4 R5 F2", course(new Turns(Turns.Unit.STEPS, 1, 3), 9, 3));
    assertEquals("F0 F1 R0 F2 F3 R1", course(new Turns(Turns.Unit.STEPS, 2, 1), 6, 3));
    assertEquals(
        "F0 F1 F2 R0 R1 R2 F3 F4 F5 R3", course(new Turns(Turns.Unit.EPOCHS, 1, 1), 10, 3));
    assertEquals("F0 F1 R0 R1 R2 R3 F2 F3 R4", course(new Turns(Turns.Unit.EPOCHS, 1, 2), 9, 2));
  }

  @Test
  void turnsMayBeLongerThanAnyRun() {
    int most = Integer.MAX_VALUE;
    assertEquals("F0 F1 F2", course(new Turns(Turns.Unit.STEPS, most, most), 3, 5));
    assertEquals("F0 F1 F2", course(new Turns(Turns.Unit.EPOCHS, most, most), 3, 5));
    Turns.Place late = new Turns(Turns.Unit.EPOCHS, 1, most).at(most, 5);
    assertEquals(new Turns.Place(false, true, most - 5), late);
    UserException e =
        assertThrows(
            UserException.class, () -> new Turns(Turns.Unit.STEPS, most, most).stepsPerEpoch(5));
    assertTrue(e.getMessage().contains("4294967294 steps, more than 2147483647"), e.getMessage());
    assertThrows(UserException.class, () -> StepCount.of(1L << 31, "a run"));
    assertEquals(1, StepCount.batches(8, most));
    assertEquals(3, StepCount.batches(8, 3));
  }

  @Test
  void anEpochVisitsEveryForgetRowOnce() {
    assertEquals(3, Turns.JOINT.stepsPerEpoch(3));
    assertEquals(12, new Turns(Turns.Unit.STEPS, 1, 3).stepsPerEpoch(3));
    assertEquals(6, new Turns(Turns.Unit.STEPS, 2, 1).stepsPerEpoch(3));
    assertEquals(3, new Turns(Turns.Unit.EPOCHS, 1, 1).stepsPerEpoch(3));
    assertThrows(UserException.class, () -> new Turns(Turns.Unit.STEPS, 0, 1));
  }
}
