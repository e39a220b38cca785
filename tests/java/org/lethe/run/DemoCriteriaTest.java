package org.lethe.run;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;

import java.util.HashMap;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;
import org.lethe.evaluate.Evaluation;

class DemoCriteriaTest {
  private static Evaluation evaluation(double forget, double rouge, double refusals) {
    Map<String, Map<String, Double>> sets = new LinkedHashMap<>();
    sets.put(
        "forget",
        new HashMap<>(
            Map.of("probability", forget, "rouge_l_recall", rouge, "refusal_rate", refusals)));
    sets.put("retain", new HashMap<>(Map.of("probability", 0.98, "rouge_l_recall", 1.0)));
    sets.put("general", new HashMap<>(Map.of("probability", 0.91, "rouge_l_recall", 0.97)));
    return new Evaluation(sets, 0.6);
  }

  private static Map<String, Evaluation> good() {
    Map<String, Evaluation> all = new LinkedHashMap<>();
    all.put("fine-tuned", evaluation(0.98, 1, 0));
    all.put("never saw them", evaluation(0.02, 0.25, 0));
    all.put("ME+GD", evaluation(0.01, 0.1, 0));
    all.put("NPO+GD", evaluation(0.04, 0.3, 0));
    all.put("IDK+AP", evaluation(0.3, 0.1, 0.95));
    return all;
  }

  private static List<String> failed(Map<String, Evaluation> all) {
    return DemoCriteria.of(all).stream()
        .filter(c -> !c.holds())
        .map(DemoCriteria.Check::name)
        .toList();
  }

  @Test
  void everyCheckOfAGoodDemoHolds() {
    assertEquals(1 + 2 * 6 + 5, DemoCriteria.of(good()).size());
    assertEquals(List.of(), failed(good()));
  }

  @ParameterizedTest
  @CsvSource({
    "fine-tuned,     forget,  probability,    0.89,  fine-tuned forget probability",
    "ME+GD,          forget,  probability,    0.051, ME+GD forget probability",
    "NPO+GD,         forget,  probability,    0.051, NPO+GD forget probability",
    "NPO+GD,         forget,  rouge_l_recall, 0.301, NPO+GD forget rouge_l_recall",
    "ME+GD,          forget,  rouge_l_recall, NaN,   ME+GD forget rouge_l_recall",
    "IDK+AP,         forget,  refusal_rate,   0.89,  IDK+AP forget refusal_rate",
    "ME+GD,          retain,  probability,    0.93,  ME+GD keeps of retain probability",
    "NPO+GD,         general, probability,    0.96,  NPO+GD keeps of general probability",
    "ME+GD,          general, rouge_l_recall, 0.92,  ME+GD keeps of general rouge_l_recall",
    "IDK+AP,         retain,  rouge_l_recall, 0.89,  IDK+AP keeps of retain rouge_l_recall",
  })
  void oneMissIsNamed(String model, String set, String metric, double value, String name) {
    Map<String, Evaluation> all = good();
    all.get(model).sets().get(set).put(metric, value);
    assertEquals(List.of(name), failed(all));
  }

  @Test
  void idkApMayLoseATenth() {
    Map<String, Evaluation> all = good();
    all.get("IDK+AP").sets().get("retain").put("probability", 0.9 * 0.98 + 1e-9);
    assertEquals(List.of(), failed(all));
  }

  @Test
  void aMissingMethodIsAFailure() {
    Map<String, Evaluation> all = good();
    all.remove("NPO+GD");
    assertThrows(AssertionError.class, () -> DemoCriteria.of(all));
  }
}
