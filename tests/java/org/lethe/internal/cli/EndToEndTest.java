package org.lethe.internal.cli;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertNotEquals;
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
import org.junit.jupiter.api.TestInstance;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;
import org.junit.jupiter.params.provider.ValueSource;
import org.lethe.checkpoint.SafetensorsFile;
import org.lethe.model.Goldens;

/** Every verb on a model of one layer, from random weights to an answered question. */
@TestInstance(TestInstance.Lifecycle.PER_CLASS)
class EndToEndTest {
  private static final ObjectMapper JSON = new ObjectMapper();

  private TinyRuns runs;

  @BeforeAll
  void fineTune(@TempDir Path root) {
    runs = new TinyRuns(root).fineTuned();
  }

  private static String run(String... args) {
    TestConsole console = new TestConsole(false);
    assertEquals(0, Main.run(console.console(), args), console.err());
    return console.out();
  }

  private static List<JsonNode> lines(Path file) throws IOException {
    List<JsonNode> lines = new ArrayList<>();
    for (String line : Files.readAllLines(file)) {
      lines.add(JSON.readTree(line));
    }
    return lines;
  }

  @Test
  void fineTuningLearnsAndLeavesAModelDirectory() throws IOException {
    List<JsonNode> metrics = lines(runs.resolve("tuned/metrics.jsonl"));
    // 20 rows, 8 at a time, 12 times.
    assertEquals(36, metrics.size());
    for (int i = 0; i < metrics.size(); i++) {
      assertEquals(i, metrics.get(i).get("step").asInt());
      assertTrue(metrics.get(i).get("applied").asBoolean());
    }
    double first = metrics.get(0).get("loss").asDouble();
    // Random weights of deviation 0.02 say nearly nothing: about log of the vocabulary.
    assertEquals(Math.log(700), first, 0.1);
    assertTrue(metrics.get(35).get("loss").asDouble() < 0.8 * first);
    for (String file :
        List.of(
            "config.yaml",
            "report.md",
            "report.html",
            "model/config.json",
            "model/generation_config.json",
            "model/model.safetensors",
            "model/tokenizer.json",
            "model/tokenizer_config.json")) {
      assertTrue(Files.size(runs.resolve("tuned").resolve(file)) > 0, file);
    }
  }

  @ParameterizedTest
  @ValueSource(strings = {"ME+GD", "NPO+KL", "IDK+AP", "DPO+none", "GA+GD"})
  void evaluatingTheSavedAdapterGivesTheRunsOwnDigits(String method) throws IOException {
    String name = "forgot-" + method;
    String printed = run(runs.unlearn(name, method, "train.learning_rate=1e-2"));
    Path output = runs.resolve(name);
    assertEquals(4, lines(output.resolve("metrics.jsonl")).size());
    for (String file :
        List.of(
            "config.yaml",
            "report.md",
            "report.html",
            "adapter/adapter_config.json",
            "adapter/adapter_model.safetensors")) {
      assertTrue(Files.size(output.resolve(file)) > 0, file);
    }
    assertFalse(Files.exists(output.resolve("model")));
    assertTrue(Files.readString(output.resolve("report.md")).contains("no proof of deletion"));

    String again = run(runs.evaluate("judged-" + method, "adapter=" + output.resolve("adapter")));
    for (String file : List.of("evaluation.json", "evaluation-rows.jsonl")) {
      assertEquals(
          Files.readString(output.resolve("evaluation").resolve(file)),
          Files.readString(runs.resolve("judged-" + method).resolve(file)),
          file);
    }
    String after = printed.substring(printed.indexOf("After:"));
    String forgetRow = after.lines().filter(l -> l.contains("forget")).findFirst().orElseThrow();
    assertTrue(again.contains(forgetRow), again + printed);

    run(runs.evaluate("base-" + method));
    assertNotEquals(
        Files.readString(runs.resolve("base-" + method).resolve("evaluation.json")),
        Files.readString(output.resolve("evaluation/evaluation.json")));
  }

  @Test
  void allWeightsCanForgetAndTheModelIsJudgedAlike() throws IOException {
    run(runs.unlearn("whole", "ME+GD", "train.full_parameters=true"));
    assertFalse(Files.exists(runs.resolve("whole/adapter")));
    assertTrue(Files.exists(runs.resolve("whole/model/tokenizer.json")));
    run(runs.evaluate("whole-judged", "model=" + runs.resolve("whole/model")));
    assertEquals(
        Files.readString(runs.resolve("whole/evaluation/evaluation.json")),
        Files.readString(runs.resolve("whole-judged/evaluation.json")));
  }

  /** The update in the backward pass changes no bit of the model that is written. */
  @Test
  void allWeightsCanForgetWithLittleOptimizerState() throws IOException {
    List<Path> models = new ArrayList<>();
    for (boolean fused : new boolean[] {false, true}) {
      String name = fused ? "small-fused" : "small";
      run(
          runs.unlearn(
              name,
              "ME+GD",
              "train.full_parameters=true",
              "dtype=bf16",
              "train.master=none",
              "train.optimizer_state=8bit",
              "train.fused_update=" + fused));
      models.add(runs.resolve(name).resolve("model/model.safetensors"));
    }
    assertEquals(-1, Files.mismatch(models.get(0), models.get(1)));
  }

  @Test
  void aGivenModelIsTaughtByAdaptersOrWhole() throws IOException {
    for (boolean whole : new boolean[] {false, true}) {
      String name = whole ? "taught-whole" : "taught";
      run(
          "finetune",
          "model=" + runs.model(),
          "output=" + runs.resolve(name),
          "threads=1",
          "data.train=[" + runs.data("forget") + "]",
          "train.full_parameters=" + whole,
          "train.steps=30",
          "train.learning_rate=1e-2");
      List<JsonNode> metrics = lines(runs.resolve(name).resolve("metrics.jsonl"));
      assertEquals(30, metrics.size());
      // Six rows are one batch: every step sees the same.
      assertTrue(
          metrics.get(29).get("loss").asDouble() < metrics.get(0).get("loss").asDouble() - 0.05,
          metrics.toString());
      assertEquals(whole, Files.exists(runs.resolve(name).resolve("model/model.safetensors")));
      assertEquals(!whole, Files.exists(runs.resolve(name).resolve("adapter")));
    }
  }

  @Test
  void bf16GoesTheWholeWay() throws IOException {
    run(runs.unlearn("narrow", "NPO+GD", "dtype=bf16"));
    run(runs.evaluate("narrow-judged", "dtype=bf16", "adapter=" + runs.resolve("narrow/adapter")));
    JsonNode forget =
        JSON.readTree(Files.readString(runs.resolve("narrow/evaluation/evaluation.json")))
            .at("/sets/forget/probability");
    JsonNode again =
        JSON.readTree(Files.readString(runs.resolve("narrow-judged/evaluation.json")))
            .at("/sets/forget/probability");
    // The run has the adapter's fp32 master rounded to storage, as loading does.
    assertEquals(forget.asDouble(), again.asDouble());
    assertTrue(forget.asDouble() > 0);
  }

  @ParameterizedTest
  @CsvSource({"1", "2"})
  void theSameRunGivesTheSameBytes(int threads) throws IOException {
    String[] names = {"same-a-" + threads, "same-b-" + threads};
    for (String name : names) {
      run(runs.unlearn(name, "NPO+GD", "threads=" + threads));
    }
    for (String file :
        List.of(
            "metrics.jsonl",
            "adapter/adapter_model.safetensors",
            "adapter/adapter_config.json",
            "evaluation/evaluation.json",
            "evaluation/evaluation-rows.jsonl")) {
      assertArrayEquals(
          Files.readAllBytes(runs.resolve(names[0]).resolve(file)),
          Files.readAllBytes(runs.resolve(names[1]).resolve(file)),
          file);
    }
  }

  @Test
  void anotherSeedGivesAnotherRun() throws IOException {
    run(runs.unlearn("seed-0", "ME+GD"));
    run(runs.unlearn("seed-1", "ME+GD", "seed=1"));
    assertNotEquals(
        Files.readString(runs.resolve("seed-0/metrics.jsonl")),
        Files.readString(runs.resolve("seed-1/metrics.jsonl")));
  }

  /**
   * The cut into pieces changes neither what is summed nor the order within a sequence; GEMM
   * kernels may choose other blocks for another number of rows, which moves the last bits of fp32.
   */
  @ParameterizedTest
  @ValueSource(strings = {"ME+GD", "NPO+GD", "IDK+AP"})
  void theTokenBudgetDoesNotShow(String method) throws IOException {
    // fp32 eps 6e-8 times some hundred terms.
    double lossTolerance = 1e-5;
    // An Adam step divides by the root of the second moment: where a gradient is within rounding
    // of 0 its step is decided by rounding. The bound that the golden AdamW steps are held to.
    double movementTolerance = 1e-3;
    String large = "large-" + method;
    String small = "small-" + method;
    run(runs.unlearn(large, method, "method.reference=in_batch"));
    run(
        runs.unlearn(
            small, method, "method.reference=in_batch", "train.tokens_per_micro_batch=90"));
    List<JsonNode> expected = lines(runs.resolve(large).resolve("metrics.jsonl"));
    List<JsonNode> found = lines(runs.resolve(small).resolve("metrics.jsonl"));
    for (int i = 0; i < expected.size(); i++) {
      double loss = expected.get(i).get("loss").asDouble();
      // Nothing has moved yet at step 0: only the order of exact sums differs.
      double tolerance = i == 0 ? 0 : lossTolerance * Math.abs(loss);
      assertEquals(loss, found.get(i).get("loss").asDouble(), tolerance, "step " + i);
    }
    Path weights = Path.of("adapter", "adapter_model.safetensors");
    try (SafetensorsFile a = SafetensorsFile.open(runs.resolve(large).resolve(weights));
        SafetensorsFile b = SafetensorsFile.open(runs.resolve(small).resolve(weights))) {
      for (String name : a.names()) {
        float[] one = Goldens.floats(a, name);
        float[] other = Goldens.floats(b, name);
        // B starts at 0, so it is what moved; A moves less than it is long.
        double error = Goldens.distance(one, other) / Goldens.norm(one);
        assertTrue(error <= movementTolerance, name + " differs by " + error);
      }
    }
  }

  @Test
  void generateAnswersEachQuestionInALine() {
    String[] questions = {"Who is Anna?", "What is the colour of snow?"};
    String model = runs.model().toString();
    run(runs.unlearn("for-generate", "IDK+AP", "train.learning_rate=1e-2"));
    String adapter = runs.resolve("for-generate/adapter").toString();
    String base =
        run("generate", "--model", model, "--max-new-tokens", "6", questions[0], questions[1]);
    assertEquals(2, base.lines().count(), base);
    assertEquals(
        base,
        run("generate", "--model", model, "--max-new-tokens", "6", questions[0], questions[1]));
    String[] sampled = {
      "generate",
      "--model",
      model,
      "--adapter",
      adapter,
      "--max-new-tokens",
      "6",
      "--temperature",
      "2",
      "--seed",
      "5",
      questions[0]
    };
    assertEquals(run(sampled), run(sampled));
    sampled[10] = "6";
    String other = run(sampled);
    sampled[10] = "5";
    assertNotEquals(other, run(sampled));
  }
}
