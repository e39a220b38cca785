package org.lethe.internal.cli;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

/** SCRUB's alternation of max and min epochs, and the min step alone, from the verb. */
class ScrubRunTest {
  private static final ObjectMapper JSON = new ObjectMapper();

  @TempDir Path root;

  /** The lines of the steps of a run of SCRUB with fresh adapters. */
  private static List<JsonNode> steps(TinyRuns runs, String name, String... more)
      throws IOException {
    TestConsole console = new TestConsole(false);
    String[] arguments = runs.unlearn(name, "SCRUB+none", more);
    assertEquals(0, Main.run(console.console(), arguments), console.err());
    List<JsonNode> steps = new ArrayList<>();
    for (String line : Files.readAllLines(runs.resolve(name).resolve("metrics.jsonl"))) {
      steps.add(JSON.readTree(line));
    }
    return steps;
  }

  private static String side(JsonNode step) {
    String line = step.toString();
    return (line.contains("\"SCRUB_max\"") ? "F" : "")
        + (line.contains("\"SCRUB_min\"") && line.contains("\"SCRUB_nll\"") ? "R" : "");
  }

  @Test
  void epochsOfMaxAndMinStepsAlternate() throws IOException {
    TinyRuns runs = new TinyRuns(root).fineTuned();
    // Six forget rows in batches of three: two steps an epoch.
    List<JsonNode> steps =
        steps(runs, "turns", "train.steps=8", "train.turns=epochs", "train.learning_rate=1e-3");
    assertEquals("FFRRFFRR", String.join("", steps.stream().map(ScrubRunTest::side).toList()));
    for (int i = 0; i < steps.size(); i++) {
      double norm = steps.get(i).get("gradient_norm").asDouble();
      double loss = steps.get(i).get("loss").asDouble();
      // Fresh adapters are the teacher: nothing to move away from before the first min step.
      assertTrue(i < 2 ? norm == 0 : norm > 1e-4, steps.get(i).toString());
      boolean max = i % 4 < 2;
      assertTrue(i < 2 ? loss == 0 : max == loss < 0, steps.get(i).toString());
    }

    List<JsonNode> min =
        steps(runs, "min", "train.steps=2", "method.forget_options.forget_weight=0");
    assertEquals("RR", String.join("", min.stream().map(ScrubRunTest::side).toList()));
  }
}
