package org.lethe.train;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.util.List;
import java.util.Map;
import java.util.Set;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;
import org.lethe.UserException;

class StopRuleTest {
  private static final Set<String> SCORES =
      Set.of("forget.probability", "retain.probability", "utility");

  private static StopRule rule(String text) {
    return StopRule.parse(text, SCORES, Set.of("NPO", "GD"), "train.stop_when");
  }

  @Test
  void readsConditionsAndRepetition() {
    StopRule rule = rule(" forget.probability <= 0.05 and retain.probability >=.9 for 3 ");
    assertEquals(3, rule.times());
    assertEquals(
        List.of(
            new StopRule.Term("forget.probability", "<=", 0.05),
            new StopRule.Term("retain.probability", ">=", 0.9)),
        rule.terms());
    assertTrue(rule.needsEvaluation());
    assertTrue(rule("utility < 0.1").needsEvaluation());
    assertFalse(rule("loss > 1e3").needsEvaluation());
    assertFalse(rule("loss.NPO<-2 and epoch >= 2").needsEvaluation());
  }

  @Test
  void holdsWhenAllTermsDo() {
    StopRule rule = rule("forget.probability <= 0.05 and step >= 10");
    assertTrue(rule.holds(Map.of("forget.probability", 0.05, "step", 10.0)));
    assertFalse(rule.holds(Map.of("forget.probability", 0.051, "step", 10.0)));
    assertFalse(rule.holds(Map.of("forget.probability", 0.0, "step", 9.0)));
    assertFalse(rule.holds(Map.of("forget.probability", Double.NaN, "step", 10.0)));
    assertFalse(rule.holds(Map.of("step", 10.0)));
    assertTrue(rule("loss < 1").holds(Map.of("loss", 0.9)));
    assertFalse(rule("loss < 1").holds(Map.of("loss", 1.0)));
    assertTrue(rule("loss > 1").holds(Map.of("loss", 1.1)));
    assertFalse(rule("loss > 1").holds(Map.of("loss", 1.0)));
  }

  @ParameterizedTest
  @CsvSource({
    "'', is no condition",
    "'loss', is no condition",
    "'loss = 3', is no condition",
    "'loss < 3 and', is no condition",
    "'loss < 3 or step > 2', is no condition",
    "'loss < 1 for 0', count from 1",
    "'loss < 1..2', is no number",
    "'forget.probabilty <= 0.1', is nothing that is measured",
    "'holdout.probability <= 0.1', is nothing that is measured",
    "'loss.ME <= 0.1', is nothing that is measured"
  })
  void refusesWhatItCannotJudge(String text, String why) {
    String message = assertThrows(UserException.class, () -> rule(text)).getMessage();
    assertTrue(message.startsWith("train.stop_when: "), message);
    assertTrue(message.contains(why), message);
  }
}
