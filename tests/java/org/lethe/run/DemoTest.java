package org.lethe.run;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.stream.Stream;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.MethodSource;
import org.lethe.UserException;
import org.lethe.evaluate.Evaluation;

class DemoTest {
  private static final Path OUTPUT = Path.of("never-made");
  private static final List<String> ALL = Demo.allMethods();

  static Stream<Runnable> outOfRange() {
    return Stream.of(
        () -> options(1, 0.5, 1, ALL),
        () -> options(201, 0.5, 1, ALL),
        () -> options(4, 0, 1, ALL),
        () -> options(4, 1, 1, ALL),
        () -> options(4, Double.NaN, 1, ALL),
        () -> options(4, 0.5, 0, ALL),
        () -> options(4, 0.5, 1, List.of("ME")),
        () -> options(4, 0.5, 1, List.of("ME+GD", "ME+GD")));
  }

  private static Demo.Options options(
      int people, double fraction, int epochs, List<String> methods) {
    return new Demo.Options(OUTPUT, false, "cpu", 1, people, fraction, epochs, methods);
  }

  @ParameterizedTest
  @MethodSource("outOfRange")
  void whatIsOutOfRangeIsRefused(Runnable options) {
    assertThrows(UserException.class, options::run);
  }

  @Test
  void thereAreThreeMethods() {
    assertEquals(List.of("ME+GD", "NPO+GD", "IDK+AP"), ALL);
  }

  @Test
  void aTinyDemoFillsItsTable(@TempDir Path directory) {
    Path output = directory.resolve("demo");
    List<String> phases = new ArrayList<>();
    RunListener listener =
        new RunListener() {
          @Override
          public void phase(String name, int steps) {
            phases.add(name);
            assertTrue(steps > 0);
          }
        };
    Demo.Result result =
        Demo.run(
            new Demo.Options(output, false, "cpu", 2, 2, 0.5, 1, ALL),
            List.of("scratch.hidden_size=48", "scratch.layers=1", "scratch.feed_forward_size=64"),
            List.of("train.steps=3", "train.warmup_steps=1", "train.batch_size=4"),
            listener);
    assertEquals(
        List.of("fine-tuned", "never saw them", "ME+GD", "NPO+GD", "IDK+AP"),
        List.copyOf(result.evaluations().keySet()));
    String table = result.table().plain();
    for (String name : result.evaluations().keySet()) {
      Evaluation e = result.evaluations().get(name);
      assertEquals(List.of("forget", "retain", "general"), List.copyOf(e.sets().keySet()));
      for (String set : e.sets().keySet()) {
        double probability = e.score(set, "probability");
        assertTrue(probability > 0 && probability < 1, name + " " + set + " " + probability);
      }
      assertTrue(e.utility() >= 0, name);
      assertTrue(table.contains(name), table);
    }
    assertFalse(table.contains("NaN"), table);
    assertEquals(
        List.of("finetune", "finetune", "unlearn IDK+AP", "unlearn ME+GD", "unlearn NPO+GD"),
        phases.stream().sorted().toList());
    for (String file :
        List.of(
            "data/forget.jsonl",
            "fine-tuned/model/config.json",
            "never-saw/report.html",
            "me-gd/adapter/adapter_config.json",
            "npo-gd/adapter/adapter_config.json",
            "idk-ap/adapter/adapter_config.json")) {
      assertTrue(Files.exists(output.resolve(file)), file);
    }
    assertThrows(
        UserException.class,
        () -> Demo.run(new Demo.Options(output, false, "cpu", 2, 2, 0.5, 1, ALL), listener));
  }
}
