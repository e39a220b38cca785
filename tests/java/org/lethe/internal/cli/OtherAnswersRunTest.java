package org.lethe.internal.cli;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertNotEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import org.junit.jupiter.api.BeforeAll;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

/** Runs of methods that give forget questions other answers: AltPO and LLMU; and Jang's. */
class OtherAnswersRunTest {
  private static final ObjectMapper JSON = new ObjectMapper();

  @TempDir static Path root;
  private static TinyRuns runs;

  @BeforeAll
  static void tune() {
    runs = new TinyRuns(root).fineTuned();
  }

  private static TestConsole run(int expected, String[] arguments, String... more) {
    List<String> all = new ArrayList<>(Arrays.asList(arguments));
    all.addAll(Arrays.asList(more));
    TestConsole console = new TestConsole(false);
    assertEquals(expected, Main.run(console.console(), all.toArray(String[]::new)), console.err());
    return console;
  }

  private static double part(String output, int step, String loss) throws IOException {
    JsonNode line =
        JSON.readTree(Files.readAllLines(runs.resolve(output).resolve("metrics.jsonl")).get(step));
    JsonNode value = line.findValue(loss);
    assertTrue(value != null, line.toString());
    return value.asDouble();
  }

  private static String adapter(String output) throws IOException {
    return TinyRuns.contents(runs.resolve(output).resolve("adapter"))
        .get("adapter_model.safetensors");
  }

  @Test
  void altPoPrefersWhatTheModelMadeUp() throws IOException {
    String message = run(2, runs.unlearn("lacking", "AltPO+GD")).err();
    assertTrue(message.contains("lethe alternates"), message);
    Path made = runs.resolve("alternates.jsonl");
    run(
        0,
        new String[] {"alternates", "--model", runs.model().toString(), "--threads=1"},
        "--max-new-tokens=8",
        "--repeats=3",
        "--instruction=Other facts.",
        "-o",
        made.toString(),
        runs.data("forget").toString());
    run(
        0,
        runs.unlearn("altpo", "AltPO+GD"),
        "data.forget=[" + made + "]",
        "train.learning_rate=5e-3");
    // Both margins are 0 before the first update: (2 / beta) ln 2.
    assertEquals(2 / 0.1 * Math.log(2), part("altpo", 0, "AltPO"), 1e-9);
    assertTrue(part("altpo", 3, "AltPO") < part("altpo", 0, "AltPO"));
  }

  @Test
  void llmuLearnsAnswersOfOthers() throws IOException {
    String few = run(2, runs.unlearn("few", "LLMU+none"), "data.mismatches=60").err();
    assertTrue(few.contains("gives a forget question 60 answers of others"), few);
    run(0, runs.unlearn("llmu", "LLMU+none"), "train.learning_rate=5e-3");
    double before = part("llmu", 0, "LLMU_mismatch");
    assertTrue(before > 0, before + "");
    run(
        0,
        runs.unlearn("general", "LLMU+none"),
        "data.mismatch=[" + runs.data("general") + "]",
        "data.mismatches=2");
    assertNotEquals(adapter("llmu"), adapter("general"));
    assertNotEquals(before, part("general", 0, "LLMU_mismatch"));
  }

  @Test
  void jangsAscentTakesTheWholeSetAtOnce() throws IOException {
    String odd = run(2, runs.unlearn("odd", "Jang+none"), "train.full_batch=true").err();
    assertTrue(odd.contains("set train.batch_size=6"), odd);
    run(
        0,
        runs.unlearn("jang", "Jang+none"),
        "train.full_batch=true",
        "train.batch_size=6",
        "evaluate.extraction_n=2",
        "evaluate.extraction_prefixes=all");
    JsonNode forget =
        JSON.readTree(runs.resolve("jang/evaluation/evaluation.json").toFile())
            .path("sets")
            .path("forget");
    double likelihood = forget.path("extraction_likelihood").asDouble(-1);
    assertTrue(likelihood >= 0 && likelihood <= 1, forget.toString());
  }
}
