package org.lethe.internal.cli;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertNotEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import org.junit.jupiter.api.BeforeAll;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

/** combine, calibrate and generate: adapters with coefficients, through the command line. */
class AdapterVerbsTest {
  @TempDir static Path dir;
  private static TinyRuns runs;
  private static String adapter;

  @BeforeAll
  static void train() {
    runs = new TinyRuns(dir).fineTuned();
    run(0, runs.unlearn("forgot", "GA+none", "train.learning_rate=1e-2", "train.steps=12"));
    adapter = runs.resolve("forgot/adapter").toString();
  }

  private static TestConsole run(int expected, String... arguments) {
    TestConsole console = new TestConsole(false);
    assertEquals(expected, Main.run(console.console(), arguments), console.err());
    return console;
  }

  private static String[] calibrate(String output, String... more) {
    String[] arguments = runs.evaluate(output, more);
    arguments[0] = "calibrate";
    return arguments;
  }

  @Test
  void theLeastShareThatKeepsTheScoreIsFound() throws IOException {
    Path out = runs.resolve("calibrated");
    JsonNode json =
        new ObjectMapper()
            .readTree(
                run(
                        0,
                        calibrate(
                            "calibrated",
                            "adapter=" + adapter,
                            "evaluate.rows=2",
                            "evaluate.max_new_tokens=2",
                            "calibrate.step=0.25",
                            "calibrate.at_least=0.6",
                            "--json"))
                    .out());
    JsonNode found = new ObjectMapper().readTree(Files.readString(out.resolve("calibration.json")));
    JsonNode tried = found.get("tried");
    double u = found.get("u").asDouble();
    assertEquals(u, json.get("u").asDouble());
    // Twelve steps of ascent harm what was to be kept, and the original does not.
    assertTrue(u > 0, found.toString());
    assertEquals(found.get("original").asDouble() * 0.6, found.get("bar").asDouble(), 1e-12);
    for (int i = 0; i < tried.size(); i++) {
      assertEquals(i * 0.25, tried.get(i).get("u").asDouble(), 1e-12);
      double kept = tried.get(i).get("scores").get("retain.probability").asDouble();
      assertEquals(i == tried.size() - 1, kept >= found.get("bar").asDouble(), "u of " + i);
    }
    // What it writes is the mixture that it judged.
    run(
        0,
        runs.evaluate(
            "mixture",
            "adapter=" + out.resolve("adapter"),
            "evaluate.rows=2",
            "evaluate.max_new_tokens=2"));
    JsonNode mixture =
        new ObjectMapper()
            .readTree(Files.readString(runs.resolve("mixture").resolve("evaluation.json")));
    assertEquals(
        tried.get(tried.size() - 1).get("scores").get("retain.probability").asDouble(),
        mixture.get("sets").get("retain").get("probability").asDouble(),
        1e-6);
  }

  @Test
  void aScoreThatIsNotThereIsNamed() {
    String[] unknown =
        calibrate(
            "nowhere",
            "adapter=" + adapter,
            "evaluate.rows=1",
            "evaluate.max_new_tokens=1",
            "calibrate.score=retain.prob");
    String error = run(2, unknown).err();
    assertTrue(error.contains("calibrate.score is retain.prob"), error);
    assertTrue(error.contains("retain.probability"), error);
    assertTrue(run(2, calibrate("nowhere")).err().contains("adapter is not set"));
    String tooMuch =
        run(2, calibrate("nowhere", "adapter=" + adapter, "calibrate.at_least=1.5")).err();
    assertTrue(tooMuch.contains("at_least"), tooMuch);
  }

  private static String answer(String... adapters) {
    String[] arguments = new String[5 + 2 * adapters.length];
    String[] first = {"generate", "--model", runs.model().toString(), "--max-new-tokens=6", "Who?"};
    System.arraycopy(first, 0, arguments, 0, first.length);
    for (int i = 0; i < adapters.length; i++) {
      arguments[5 + 2 * i] = "--adapter";
      arguments[6 + 2 * i] = adapters[i];
    }
    return run(0, arguments).out();
  }

  @Test
  void aMixtureOfTwoModelsAnswers() {
    String model = runs.model().toString();
    String[] arguments = {
      "generate", "--model", model, "--max-new-tokens=6", "Who?", "--whp", adapter, "--alpha", "0"
    };
    assertEquals(answer(), run(0, arguments).out());
    arguments[8] = "-1";
    assertTrue(run(2, arguments).err().contains("alpha is -1.0"));
    arguments[8] = "5";
    arguments[3] = "--temperature=1";
    assertTrue(run(2, arguments).err().contains("decoded greedily"));
  }

  @Test
  void answersComeFromTheSumOfTheAdapters() {
    String base = answer();
    assertEquals(base, answer(adapter + ":0"));
    assertEquals(base, answer(adapter, adapter + ":-1.0"));
    assertNotEquals(base, answer(adapter + ":4"));
    assertEquals(answer(adapter), answer(adapter + ":1"));
    TestConsole console = new TestConsole(false);
    assertEquals(
        2,
        Main.run(
            console.console(),
            "generate",
            "--model",
            runs.model().toString(),
            "--adapter",
            adapter + ":1x",
            "Who?"));
    assertTrue(console.err().contains("DIR:COEFFICIENT"), console.err());
  }
}
