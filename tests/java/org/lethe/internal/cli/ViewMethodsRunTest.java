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
import org.junit.jupiter.api.BeforeAll;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.ValueSource;

/** KGA and Who's Harry Potter on the tiny corpus, through the command line. */
class ViewMethodsRunTest {
  @TempDir static Path dir;
  private static TinyRuns runs;

  @BeforeAll
  static void train() {
    runs = new TinyRuns(dir).fineTuned();
    for (String part : new String[] {"forget", "general"}) {
      run(
          0,
          "finetune",
          "model=" + runs.model(),
          "output=" + runs.resolve("on-" + part),
          "threads=1",
          "data.train=[" + runs.data(part) + "]",
          "train.steps=8",
          "train.learning_rate=1e-2",
          "lora.rank=2");
    }
  }

  private static TestConsole run(int expected, String... arguments) {
    TestConsole console = new TestConsole(false);
    assertEquals(expected, Main.run(console.console(), arguments), console.err());
    return console;
  }

  private static String view(String name, String part) {
    return "{name: " + name + ", path: '" + runs.resolve("on-" + part + "/adapter") + "'}";
  }

  private static List<Double> losses(String output, String name) throws IOException {
    List<Double> losses = new ArrayList<>();
    for (String line : Files.readAllLines(runs.resolve(output).resolve("metrics.jsonl"))) {
      JsonNode value = new ObjectMapper().readTree(line).path("parts").path(name);
      if (value.isNumber()) {
        losses.add(value.asDouble());
      }
    }
    return losses;
  }

  @Test
  void theGapIsAligned() throws IOException {
    String[] arguments =
        runs.unlearn(
            "kga",
            "KGA+none",
            "views=[" + view("forget", "forget") + ", " + view("new", "general") + "]",
            "data.unseen=[" + runs.data("general") + "]",
            "data.retain_per_forget=2",
            "train.learning_rate=3e-3",
            "train.steps=12");
    run(0, arguments);
    List<Double> align = losses("kga", "KGA");
    assertEquals(12, align.size(), "" + align);
    assertTrue(align.get(0) > 0);
    assertTrue(align.stream().skip(6).anyMatch(a -> a < align.get(0)), "" + align);
    // Nothing has moved at the first step.
    assertEquals(0, losses("kga", "KGA_retain").get(0), 1e-4);
  }

  @ParameterizedTest
  @ValueSource(strings = {"soft", "hard"})
  void theGenericTextIsLearnt(String targets) throws IOException {
    JsonNode row = new ObjectMapper().readTree(Files.readAllLines(runs.data("forget")).get(0));
    String name = row.path("answer").asText().split(" ", -1)[0];
    Path anchors = runs.resolve("anchors.json");
    Files.writeString(anchors, new ObjectMapper().createObjectNode().put(name, "Someone") + "");
    String output = "whp-" + targets;
    String[] arguments =
        runs.unlearn(
            output,
            "WHP+none",
            "views=[" + view("reinforced", "forget") + "]",
            "data.anchors=" + anchors,
            "method.forget_options.targets=" + targets,
            "train.learning_rate=1e-2",
            // All rows in each step, so that losses are of the same rows.
            "train.batch_size=6",
            "train.steps=10");
    run(0, arguments);
    List<Double> losses = losses(output, "WHP");
    assertEquals(10, losses.size());
    assertTrue(losses.get(9) < losses.get(0), "" + losses);
  }

  @Test
  void whatIsMissingIsNamed() {
    String views = "views=[" + view("forget", "forget") + ", " + view("new", "general") + "]";
    assertTrue(run(2, runs.unlearn("x", "KGA+none", views)).err().contains("data.unseen"));
    String[] whp = runs.unlearn("x", "WHP+none", "views=[" + view("reinforced", "forget") + "]");
    assertTrue(run(2, whp).err().contains("data.anchors"));
    String[] none = runs.unlearn("y", "WHP+none", "method.forget_options.baseline=original");
    String error = run(2, none).err();
    assertTrue(error.contains("name: reinforced"), error);
  }
}
