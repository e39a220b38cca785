package org.lethe.internal.cli;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertNotEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import com.fasterxml.jackson.databind.node.ObjectNode;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import org.junit.jupiter.api.BeforeAll;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

/** Unlearning of sensitive tokens alone, which rows name or the base finds. */
class SensitiveRunTest {
  private static final ObjectMapper JSON = new ObjectMapper();

  @TempDir static Path root;
  private static TinyRuns runs;

  @BeforeAll
  static void tune() throws IOException {
    runs = new TinyRuns(root).fineTuned();
    List<String> marked = new ArrayList<>();
    for (String line : Files.readAllLines(runs.data("forget"))) {
      ObjectNode row = (ObjectNode) JSON.readTree(line);
      String answer = row.path("answer").asText();
      row.putArray("sensitive_spans").add(answer.substring(answer.length() / 2));
      marked.add(JSON.writeValueAsString(row));
    }
    Files.write(runs.data("marked"), marked);
  }

  private static TestConsole run(int expected, String[] arguments, String... more) {
    List<String> all = new ArrayList<>(Arrays.asList(arguments));
    all.addAll(Arrays.asList(more));
    TestConsole console = new TestConsole(false);
    assertEquals(expected, Main.run(console.console(), all.toArray(String[]::new)), console.err());
    return console;
  }

  private static JsonNode unlearn(String output, String... more) throws IOException {
    List<String> all = new ArrayList<>(Arrays.asList(more));
    all.add("data.forget=[" + runs.data("marked") + "]");
    all.add("evaluate.max_new_tokens=1");
    all.add("train.learning_rate=8e-3");
    run(0, runs.unlearn(output, "SeUL+none"), all.toArray(String[]::new));
    return JSON.readTree(runs.resolve(output).resolve("evaluation/evaluation.json").toFile())
        .path("sets")
        .path("forget");
  }

  private static String adapter(String output) throws IOException {
    return TinyRuns.contents(runs.resolve(output).resolve("adapter"))
        .get("adapter_model.safetensors");
  }

  @Test
  void onlyTheMarkedTokensAreForgotten() throws IOException {
    JsonNode spans = unlearn("spans", "evaluate.extraction_n=1");
    JsonNode answer = unlearn("answer", "method.forget=GA");
    assertNotEquals(adapter("spans"), adapter("answer"));
    // Ascent on half of the tokens leaves the answers likelier than ascent on all of them.
    double kept = spans.path("probability").asDouble();
    double lost = answer.path("probability").asDouble();
    assertTrue(kept > lost, kept + " " + lost);
    assertTrue(spans.path("sensitive_memorization_accuracy").asDouble(-1) >= 0, spans.toString());
    // The loss is minus the marked tokens' mean nll, which grew.
    List<String> steps = Files.readAllLines(runs.resolve("spans/metrics.jsonl"));
    double first = JSON.readTree(steps.get(0)).findValue("SeUL").asDouble();
    double last = JSON.readTree(steps.get(steps.size() - 1)).findValue("SeUL").asDouble();
    assertTrue(last < first, first + " " + last);
  }

  @Test
  void theBaseFindsTokensWhereRowsNameNone() throws IOException {
    String message = run(2, runs.unlearn("none", "SeUL+none")).err();
    assertTrue(message.contains("forget.jsonl:1"), message);
    assertTrue(message.contains("data.sensitive=low_probability"), message);
    unlearn("given");
    unlearn("found", "data.sensitive=low_probability");
    assertNotEquals(adapter("given"), adapter("found"));
    unlearn("again", "data.sensitive=low_probability");
    assertEquals(adapter("found"), adapter("again"));
  }
}
