package org.lethe.internal.cli;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertTrue;

import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Map;
import java.util.TreeMap;
import org.junit.jupiter.api.BeforeAll;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.TestInstance;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.ValueSource;
import org.lethe.Hashes;

/** Runs that stop and go on, as the command line does it. */
@TestInstance(TestInstance.Lifecycle.PER_CLASS)
class ResumeTest {
  private static final int STEPS = 6;

  @TempDir static Path dir;
  private TinyRuns runs;

  @BeforeAll
  void tune() {
    runs = new TinyRuns(dir).fineTuned();
  }

  private static TestConsole run(int expected, String... arguments) {
    TestConsole console = new TestConsole(false);
    assertEquals(expected, Main.run(console.console(), arguments), console.err());
    return console;
  }

  private String[] unlearn(String output, String method) {
    return runs.unlearn(
        output,
        method,
        "train.steps=" + STEPS,
        "evaluate.every=2 steps",
        "evaluate.rows=2",
        "checkpoint.every=1 step",
        "checkpoint.keep=99");
  }

  /** What must not depend on where a run stopped. */
  private static Map<String, String> result(Path run) {
    Map<String, String> files = new TreeMap<>(TinyRuns.contents(run));
    files
        .keySet()
        .removeIf(
            name ->
                name.startsWith("timings")
                    || name.startsWith("tensorboard")
                    || name.startsWith("report"));
    files.replaceAll((name, bytes) -> Hashes.sha256(bytes));
    return files;
  }

  /** Takes a finished run back to when its {@code step}th checkpoint was its newest. */
  private static void rewind(Path run, int step) throws IOException {
    for (String made : new String[] {"adapter", "evaluation", "report.md", "report.html"}) {
      TinyRuns.delete(run.resolve(made));
    }
    for (int later = step + 1; later <= STEPS; later++) {
      TinyRuns.delete(run.resolve(String.format("checkpoints/step-%09d", later)));
    }
  }

  @ParameterizedTest
  @ValueSource(strings = {"ME+GD", "NPO+KL", "DPO+AP"})
  void everyFileIsTheSameWhereverItStopped(String method) throws IOException {
    Path out = runs.resolve("bits-" + method);
    run(0, unlearn("bits-" + method, method));
    Map<String, String> whole = result(out);
    assertTrue(
        whole.containsKey("checkpoints/step-000000006/state.safetensors"), "" + whole.keySet());
    assertTrue(whole.containsKey("adapter/adapter_model.safetensors"), "" + whole.keySet());
    for (int step = 0; step <= STEPS; step++) {
      rewind(out, step);
      TestConsole console = run(0, "resume", out.toString());
      String expected =
          step == 0 ? "there is no checkpoint; the run begins again" : "goes on after step " + step;
      assertTrue(console.err().contains(expected), console.err());
      assertEquals(whole, result(out), method + " resumed after step " + step);
    }
    assertTrue(run(0, "resume", out.toString()).out().contains("had come to its end before"));
  }

  @Test
  void fineTuningResumesToTheSameModel() throws IOException {
    String[] arguments =
        runs.finetune(
            "tune-bits", "train.steps=6", "checkpoint.every=2 steps", "checkpoint.keep=9");
    run(0, arguments);
    Path out = runs.resolve("tune-bits");
    Map<String, String> whole = result(out);
    TinyRuns.delete(out.resolve("checkpoints/step-000000006"));
    TinyRuns.delete(out.resolve("checkpoints/step-000000004"));
    TinyRuns.delete(out.resolve("model"));
    Files.delete(out.resolve("report.md"));
    run(0, "resume", out.toString());
    assertEquals(whole, result(out));
  }

  @Test
  void aFileNamedStopStopsItAndIsGone() throws IOException {
    String[] arguments = unlearn("touched", "ME+GD");
    Path out = runs.resolve("touched");
    TestConsole console = new TestConsole(false);
    // The run asks at its start whether to stop: a request made before is heard at once.
    console.console().stop().request("a test");
    assertEquals(ExitCode.STOPPED, Main.run(console.console(), arguments), console.err());
    assertTrue(console.err().contains("stopped after step 0 by a test"), console.err());
    assertTrue(console.err().contains("lethe resume " + out), console.err());
    Files.createFile(out.resolve("stop"));
    TestConsole touched = run(ExitCode.STOPPED, "resume", out.toString());
    assertTrue(touched.err().contains("by the file " + out.resolve("stop")), touched.err());
    assertFalse(Files.exists(out.resolve("stop")));
    run(0, "resume", out.toString());
    run(0, unlearn("untouched", "ME+GD"));
    assertEquals(
        TinyRuns.contents(runs.resolve("untouched/adapter")),
        TinyRuns.contents(out.resolve("adapter")));
  }

  @Test
  void aDamagedCheckpointIsPassedOverAndSaid() throws IOException {
    Path out = runs.resolve("damaged");
    run(0, unlearn("damaged", "ME+GD"));
    Map<String, String> whole = result(out);
    rewind(out, 4);
    Path state = out.resolve("checkpoints/step-000000004/state.safetensors");
    byte[] bytes = Files.readAllBytes(state);
    bytes[bytes.length / 2] ^= 4;
    Files.write(state, bytes);
    TestConsole console = run(0, "resume", out.toString());
    assertTrue(console.err().contains("a newer checkpoint is not used: "), console.err());
    assertTrue(console.err().contains("its SHA-256 differs"), console.err());
    assertTrue(console.err().contains("goes on after step 3"), console.err());
    assertEquals(whole, result(out));
  }

  @Test
  void whatDoesNotBelongTogetherIsRefused() throws IOException {
    Path out = runs.resolve("foreign");
    run(0, unlearn("foreign", "ME+GD"));
    rewind(out, 3);
    Path config = out.resolve("config.yaml");
    String yaml = Files.readString(config);
    Files.writeString(config, yaml.replace("learning_rate: 0.001", "learning_rate: 0.002"));
    assertTrue(run(2, "resume", out.toString()).err().contains("is not the configuration that"));
    Files.writeString(config, yaml.replace("version: 1", "version: 9"));
    assertTrue(run(2, "resume", out.toString()).err().contains("this Lethe reads version 1"));
    Files.writeString(config, yaml.replace("threads: 1", "threads: 2"));
    assertTrue(run(2, "resume", out.toString()).err().contains("is not the configuration that"));
    Files.writeString(config, yaml);
    Path weights = runs.model().resolve("model.safetensors");
    byte[] bytes = Files.readAllBytes(weights);
    byte[] other = bytes.clone();
    other[other.length - 1] ^= 1;
    Files.write(weights, other);
    String err = run(2, "resume", out.toString()).err();
    Files.write(weights, bytes);
    assertTrue(err.contains("was made from other weights than"), err);
    assertTrue(
        run(2, "resume", runs.resolve("data").toString())
            .err()
            .contains("is no directory of a run"));
    run(0, "resume", out.toString());
  }

  @Test
  void cadencesAndRulesAreJudgedBeforeAnythingIsWritten() {
    Path out = runs.resolve("never");
    for (String[] wrong :
        new String[][] {
          {"checkpoint.every=sometimes", "checkpoint.every is 'sometimes'"},
          {"checkpoint.every=50 steps", "it would never happen"},
          {"evaluate.every=1 minute", "must not depend on the clock"},
          {"train.stop_when=[forget.probability <= 0.1]", "evaluate.every is never"},
          {"train.stop_when=[forget.prob <= 0.1]", "is nothing that is measured"},
          {"train.warmup_steps=9", "the run has 4 (train.steps)"},
          {"train.turns=steps", "train.turns takes a forget and a retain loss"}
        }) {
      String[] arguments =
          runs.unlearn("never", wrong[0].startsWith("train.turns") ? "ME+none" : "ME+GD", wrong[0]);
      String err = run(2, arguments).err();
      assertTrue(err.contains(wrong[1]), err);
      assertFalse(Files.exists(out), err);
    }
  }

  @Test
  void aRuleStopsARunAndTheReasonIsSaid() throws IOException {
    TestConsole console =
        run(
            0,
            runs.unlearn(
                "ruled",
                "ME+GD",
                "train.steps=50",
                "train.learning_rate=1e-2",
                "evaluate.every=2 steps",
                "evaluate.rows=2",
                "train.stop_when=[forget.probability < 0.999]"));
    assertTrue(console.err().contains("since forget.probability < 0.999"), console.err());
    long steps =
        Files.readAllLines(runs.resolve("ruled/metrics.jsonl")).stream()
            .filter(l -> l.contains("\"loss\""))
            .count();
    assertTrue(steps < 50, steps + " steps");
  }

  @Test
  void resultsAreJsonForScripts() throws IOException {
    String[] arguments = runs.unlearn("json", "ME+GD", "evaluate.rows=1", "--json");
    JsonNode result = new ObjectMapper().readTree(run(0, arguments).out());
    assertEquals(4, result.get("steps").asInt());
    assertTrue(result.at("/before/sets/forget/probability").asDouble() > 0, result.toString());
    assertTrue(result.at("/after/model_utility").isNumber(), result.toString());
    assertEquals(runs.resolve("json").toString(), result.get("output").asText());
    JsonNode again =
        new ObjectMapper()
            .readTree(run(0, "resume", "--json", runs.resolve("json").toString()).out());
    assertTrue(again.get("was_finished").asBoolean());
    String[] tuning = runs.finetune("json-tune", "train.steps=2", "--json");
    assertEquals(2, new ObjectMapper().readTree(run(0, tuning).out()).get("steps").asInt());
  }

  @Test
  void sidesTakeTurns() throws IOException {
    run(
        0,
        runs.unlearn(
            "turns",
            "NPO+GD",
            "train.steps=6",
            "train.turns=steps",
            "train.retain_turn=2",
            "checkpoint.every=never"));
    StringBuilder sides = new StringBuilder();
    for (String line : Files.readAllLines(runs.resolve("turns/metrics.jsonl"))) {
      sides.append(line.contains("\"NPO\"") ? "F" : "").append(line.contains("\"GD\"") ? "R" : "");
    }
    assertEquals("FRRFRR", sides.toString());
    assertFalse(Files.exists(runs.resolve("turns/checkpoints")));
  }
}
