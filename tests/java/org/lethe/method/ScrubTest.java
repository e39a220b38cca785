package org.lethe.method;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.util.List;
import org.junit.jupiter.api.Test;
import org.lethe.InternalFaultException;
import org.lethe.UserException;

class ScrubTest {
  private static Method scrub(String option, String value) {
    return Methods.create(
        MethodConfig.of("SCRUB+none").with(Side.FORGET, option, Setting.of(value)));
  }

  @Test
  void turnsSplitItIntoMaxAndMinStep() {
    Method whole = Methods.create(MethodConfig.of("SCRUB+none"));
    assertEquals(List.of("SCRUB_max", "SCRUB_min", "SCRUB_nll"), whole.lossNames());
    assertEquals(List.of("SCRUB_max"), whole.on(true, false).lossNames());
    assertEquals(List.of("SCRUB_min", "SCRUB_nll"), whole.on(false, true).lossNames());
  }

  @Test
  void theDefaultsAreThoseOfItsSource() {
    List<Weighted> losses = Methods.create(MethodConfig.of("SCRUB+none")).losses();
    assertEquals(List.of(1.0, 0.001, 1.0), losses.stream().map(Weighted::weight).toList());
    assertEquals(-16, losses.get(0).loss().scale());
    assertEquals(16, losses.get(1).loss().scale());
    assertEquals(4, losses.get(0).loss().uses().get(0).parameters().temperature());
    // The labels' likelihood is that of the plain predictions.
    assertEquals(1, losses.get(2).loss().uses().get(0).parameters().temperature());
  }

  @Test
  void withoutItsMaxStepItIsTheMinStepAlone() {
    Method min = scrub("forget_weight", "0");
    assertEquals(List.of("SCRUB_min", "SCRUB_nll"), min.lossNames());
    assertFalse(min.forgets());
    assertTrue(min.retains());
    assertThrows(InternalFaultException.class, () -> min.on(true, false));
  }

  @Test
  void refusesATemperatureOfZero() {
    UserException refused = assertThrows(UserException.class, () -> scrub("temperature", "0"));
    assertTrue(
        refused.getMessage().contains("method.forget_options.temperature is 0"),
        refused.getMessage());
    assertTrue(refused.getMessage().contains("above 0"), refused.getMessage());
  }
}
