package org.lethe.internal.cli;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
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
import org.lethe.data.corpus.Corpus;

/** Extraction likelihood and memorisation accuracy, and the stop by them. */
class ExtractionVerbTest {
  private static final ObjectMapper JSON = new ObjectMapper();

  @TempDir static Path root;
  private static TinyRuns runs;

  @BeforeAll
  static void tune() throws IOException {
    runs = new TinyRuns(root).fineTuned();
    Corpus.writeRows(runs.data("holdout"), Corpus.generate(2, 3).forget(0.3).subList(0, 6));
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

  private static JsonNode sets(String output) throws IOException {
    return JSON.readTree(runs.resolve(output).resolve("evaluation.json").toFile()).path("sets");
  }

  @Test
  void whatWasLearntIsExtractedAndWhatWasNotIsNot() throws IOException {
    run(
        0,
        runs.finetune("learnt", "train.epochs=80", "train.learning_rate=3e-3"),
        "data.train=[" + runs.data("forget") + "]");
    run(
        0,
        runs.evaluate("judged"),
        "model=" + runs.resolve("learnt/model"),
        "data.holdout=[" + runs.data("holdout") + "]",
        "evaluate.extraction_n=3");
    JsonNode forget = sets("judged").path("forget");
    JsonNode holdout = sets("judged").path("holdout");
    double known = forget.path("extraction_likelihood").asDouble();
    double unseen = holdout.path("extraction_likelihood").asDouble();
    assertTrue(known > 2 * unseen && known <= 1 && unseen >= 0, known + " " + unseen);
    assertEquals(
        forget.path("exact_memorization").asDouble(),
        forget.path("memorization_accuracy").asDouble(),
        1e-12);
    assertFalse(forget.has("sensitive_extraction_likelihood"));
    assertFalse(sets("judged").path("retain").has("extraction_likelihood"));
  }

  @Test
  void sensitiveTokensHaveScoresOfTheirOwn() throws IOException {
    run(
        0,
        runs.evaluate("marked"),
        "data.forget=[" + runs.data("marked") + "]",
        "evaluate.extraction_n=2",
        "evaluate.extraction_prefixes=all");
    JsonNode forget = sets("marked").path("forget");
    for (String metric : List.of("memorization_accuracy", "extraction_likelihood")) {
      double sensitive = forget.path("sensitive_" + metric).asDouble(-1);
      assertTrue(sensitive >= 0 && sensitive <= 1, metric + " " + sensitive);
    }
    String row = Files.readAllLines(runs.resolve("marked/evaluation-rows.jsonl")).get(0);
    assertTrue(row.contains("\"sensitive_memorization_accuracy\":"), row);
  }

  @Test
  void aRunEndsWhenTheModelSaysTooLittle() throws IOException {
    run(0, runs.evaluate("before"), "evaluate.extraction_n=1");
    JsonNode before = sets("before").path("forget");
    double accuracy = before.path("memorization_accuracy").asDouble() / 2;
    double likelihood = before.path("extraction_likelihood").asDouble() / 2;
    assertTrue(accuracy > 0 && likelihood > 0, before.toString());
    String console =
        run(
                0,
                runs.unlearn("stopped", "GA+none"),
                "train.steps=0",
                "train.epochs=24",
                "train.batch_size=6",
                "train.full_batch=true",
                "train.learning_rate=2e-2",
                "evaluate.every=1 epochs",
                "evaluate.extraction_n=1",
                "train.stop_when=['forget.memorization_accuracy < "
                    + accuracy
                    + " and forget.extraction_likelihood < "
                    + likelihood
                    + " and epoch >= 3']")
            .out();
    int steps = steps("stopped");
    assertTrue(steps >= 3 && steps < 24, steps + " steps; " + console);
    JsonNode after =
        JSON.readTree(runs.resolve("stopped/evaluation/evaluation.json").toFile())
            .path("sets")
            .path("forget");
    assertTrue(after.path("memorization_accuracy").asDouble() < accuracy, after.toString());
    assertTrue(after.path("extraction_likelihood").asDouble() < likelihood, after.toString());
  }

  private static int steps(String output) {
    try {
      return Files.readAllLines(runs.resolve(output).resolve("metrics.jsonl")).stream()
          .filter(line -> line.contains("\"loss\""))
          .toList()
          .size();
    } catch (IOException e) {
      throw new AssertionError(e);
    }
  }

  @Test
  void aRuleByWhatIsNotMeasuredIsRefused() {
    String message =
        run(
                2,
                runs.unlearn("refused", "GA+none"),
                "evaluate.every=1 epochs",
                "train.stop_when=['forget.extraction_likelihood < 0.05']")
            .err();
    assertTrue(
        message.contains("forget.extraction_likelihood is nothing that is measured"), message);
    assertTrue(message.contains("evaluate.extraction_n"), message);
  }
}
