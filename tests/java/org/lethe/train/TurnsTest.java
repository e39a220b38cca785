package org.lethe.train;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;

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
  void anEpochVisitsEveryForgetRowOnce() {
    assertEquals(3, Turns.JOINT.stepsPerEpoch(3));
    assertEquals(12, new Turns(Turns.Unit.STEPS, 1, 3).stepsPerEpoch(3));
    assertEquals(6, new Turns(Turns.Unit.STEPS, 2, 1).stepsPerEpoch(3));
    assertEquals(3, new Turns(Turns.Unit.EPOCHS, 1, 1).stepsPerEpoch(3));
    assertThrows(UserException.class, () -> new Turns(Turns.Unit.STEPS, 0, 1));
  }
}
