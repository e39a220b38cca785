package org.lethe.internal.cli;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertNotEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import com.fasterxml.jackson.databind.ObjectMapper;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.Map;
import java.util.stream.Stream;
import org.junit.jupiter.api.BeforeAll;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

/** Phases one after the other, through the command line. */
class PhasesTest {
  @TempDir static Path dir;
  private static TinyRuns runs;

  @BeforeAll
  static void tune() {
    runs = new TinyRuns(dir).fineTuned();
  }

  private static TestConsole run(int expected, String... arguments) {
    TestConsole console = new TestConsole(false);
    assertEquals(expected, Main.run(console.console(), arguments), console.err());
    return console;
  }

  /** Writes a file of phases over the sets of the tiny corpus. */
  private static String[] file(String output, String head, String... phases) throws IOException {
    List<String> lines = new ArrayList<>();
    lines.add(head);
    lines.add("output: " + runs.resolve(output));
    lines.add("threads: 1");
    lines.add("data:");
    for (String part : new String[] {"forget", "retain", "general"}) {
      lines.add("  " + part + ": [" + runs.data(part) + "]");
    }
    lines.add("  train: [" + runs.data("forget") + ", " + runs.data("retain") + "]");
    lines.add("evaluate: {max_new_tokens: 4, rows: 2}");
    lines.add("train: {steps: 3, batch_size: 3}");
    lines.add("lora: {rank: 2}");
    lines.add("phases:");
    lines.addAll(Arrays.asList(phases));
    Path file = runs.resolve(output + ".yaml");
    Files.write(file, lines);
    return new String[] {"run", "--config", file.toString()};
  }

  private static List<String> names(Path directory) throws IOException {
    try (Stream<Path> entries = Files.list(directory)) {
      return entries.map(p -> p.getFileName().toString()).sorted().toList();
    }
  }

  private static String model() {
    return "model: " + runs.model();
  }

  @Test
  void fromScratchToAnEvaluation() throws IOException {
    String scratch =
        "scratch: {hidden_size: 32, layers: 1, heads: 4, kv_heads: 2, feed_forward_size: 64,"
            + " context_length: 128, tokenizer: "
            + runs.resolve("data/tokenizer")
            + "}";
    String[] arguments =
        file(
            "chain",
            scratch,
            "  - {task: finetune, train: {learning_rate: 3e-3}}",
            "  - {task: unlearn, name: forget, method: {forget: NPO}}",
            "  - {task: evaluate}");
    TestConsole console = run(0, arguments);
    Path out = runs.resolve("chain");
    assertEquals(
        List.of("01-finetune", "02-forget", "03-evaluate", "config.yaml", "run.json"), names(out));
    assertTrue(console.out().contains("Written to " + out.resolve("03-evaluate")), console.out());
    // The last phase judges what the second made, as the second did itself.
    assertEquals(
        Files.readString(out.resolve("02-forget/evaluation/evaluation.json")),
        Files.readString(out.resolve("03-evaluate/evaluation.json")));
    assertTrue(run(0, "resume", out.toString()).out().contains("had come to its end before"));
  }

  @Test
  void aFixedReferenceTrainsTheAdapterOnAndAMovingOneMergesIt() throws IOException {
    String[] phases = {
      "  - {task: unlearn, method: {forget: NPO, retain: KL}}",
      "  - {task: unlearn, method: {forget: NPO, retain: KL}, reference: REFERENCE}"
    };
    for (String reference : new String[] {"fixed", "moving"}) {
      String second = phases[1].replace("REFERENCE", reference);
      run(0, file("task-" + reference, model(), phases[0], second));
    }
    Path fixed = runs.resolve("task-fixed");
    Path moving = runs.resolve("task-moving");
    assertFalse(Files.exists(fixed.resolve("02-unlearn-base")));
    assertTrue(Files.isRegularFile(moving.resolve("02-unlearn-base/model.safetensors")));
    assertEquals(
        TinyRuns.contents(fixed.resolve("01-unlearn/adapter")),
        TinyRuns.contents(moving.resolve("01-unlearn/adapter")));
    // Against a moving reference NPO begins at (2 / beta) ln 2 again; against the first base it has
    // got somewhere.
    double start = 2 / 0.1 * Math.log(2);
    assertEquals(start, firstNpo(moving.resolve("02-unlearn")), 1e-9);
    assertTrue(firstNpo(fixed.resolve("02-unlearn")) < start - 1e-3);
    assertNotEquals(
        TinyRuns.contents(fixed.resolve("02-unlearn/adapter")),
        TinyRuns.contents(moving.resolve("02-unlearn/adapter")));
  }

  private static double firstNpo(Path run) throws IOException {
    String line = Files.readAllLines(run.resolve("metrics.jsonl")).get(0);
    String value = line.substring(line.indexOf("\"NPO\":") + 6);
    return Double.parseDouble(value.substring(0, value.indexOf(',')));
  }

  @Test
  void chunksAreForgottenOneAfterTheOther() throws IOException {
    run(
        0,
        file(
            "chunks",
            model(),
            "  - chunks: 2",
            "    phases:",
            "      - {task: unlearn, method: {forget: GA, retain: none}, train: {full_batch:"
                + " true}}",
            "  - {task: evaluate, evaluate: {rows: 0}}"));
    Path out = runs.resolve("chunks");
    List<String> forget = Files.readAllLines(runs.data("forget"));
    assertEquals(6, forget.size());
    String last = "";
    for (int chunk = 1; chunk <= 2; chunk++) {
      Path phase = out.resolve("0" + chunk + "-unlearn");
      String config = Files.readString(phase.resolve("config.yaml"));
      assertTrue(config.matches("(?s).*forget_chunk: \"?" + chunk + "/2.*"), config);
      // Three steps of full batches of three: every step has all rows of the chunk.
      assertEquals(3, Files.readAllLines(phase.resolve("metrics.jsonl")).size());
      String adapter = TinyRuns.contents(phase.resolve("adapter")).get("adapter_model.safetensors");
      assertNotEquals(last, adapter);
      last = adapter;
    }
    // The phases of a chunk are judged on it; the one outside on all rows.
    assertEquals(2, forgetRows(out.resolve("01-unlearn/evaluation")).size());
    assertTrue(forgetRows(out.resolve("02-unlearn/evaluation")).get(0).contains("forget.jsonl:4"));
    assertEquals(6, forgetRows(out.resolve("03-evaluate")).size());
  }

  private static List<String> forgetRows(Path evaluation) throws IOException {
    return Files.readAllLines(evaluation.resolve("evaluation-rows.jsonl")).stream()
        .filter(line -> line.contains("\"set\":\"forget\""))
        .toList();
  }

  @Test
  void whatChunksAndFullBatchesRefuse() throws IOException {
    String[] both = {"  - {chunks: 2, repeat: 2, phases: [{task: unlearn}]}"};
    assertTrue(run(2, file("both", model(), both)).err().contains("not both"));
    String[] many = {"  - {chunks: 7, phases: [{task: unlearn}]}"};
    String few = run(2, file("many", model(), many)).err();
    assertTrue(few.contains("data.forget_chunk is 1/7, but there are only 6 forget rows"), few);
    String[] odd = {"  - {task: unlearn, train: {full_batch: true}}"};
    String message = run(2, file("odd", model(), odd)).err();
    assertTrue(message.contains("train.batch_size is 3 and there are 6 forget rows"), message);
    String[] word = {"  - {task: unlearn, data: {forget_chunk: half}}"};
    String half = run(2, file("word", model(), word)).err();
    assertTrue(half.contains("2/4, the second of four chunks"), half);
  }

  @Test
  void aGroupIsRepeatedAndAnInterruptedChainGoesOn() throws IOException {
    String[] phases = {
      "  - repeat: 2",
      "    phases:",
      "      - {task: unlearn, name: a}",
      "      - {task: unlearn, name: b, method: {forget: GA}, train: {learning_rate: 1e-4}}"
    };
    run(0, file("whole", model(), phases));
    Path whole = runs.resolve("whole");
    assertEquals(List.of("01-a", "02-b", "03-a", "04-b", "config.yaml", "run.json"), names(whole));
    String[] arguments = file("parted", model(), phases);
    TestConsole console = new TestConsole(false);
    console.console().stop().request("a test");
    assertEquals(ExitCode.STOPPED, Main.run(console.console(), arguments), console.err());
    Path parted = runs.resolve("parted");
    assertEquals(List.of("01-a", "config.yaml", "run.json"), names(parted));
    // A phase that a crash left before it said what it is.
    Files.createDirectories(parted.resolve("02-b"));
    run(0, "resume", parted.toString());
    assertEquals(names(whole), names(parted));
    for (String phase : List.of("01-a", "02-b", "03-a", "04-b")) {
      Map<String, String> expected = TinyRuns.contents(whole.resolve(phase + "/adapter"));
      Map<String, String> found = TinyRuns.contents(parted.resolve(phase + "/adapter"));
      assertEquals(
          expected.get("adapter_model.safetensors"), found.get("adapter_model.safetensors"), phase);
    }
  }

  @Test
  void whatCannotBeIsRefusedBeforeAnythingRuns() throws IOException {
    Map<String, String[]> wrong =
        Map.of(
            "there are no phases", new String[] {"  []"},
            "expected one of finetune, unlearn, evaluate", new String[] {"  - {task: teach}"},
            "repeat: expected a whole number from 1", new String[] {"  - {repeat: 0, phases: []}"},
            "has the keys phases and repeat or chunks",
                new String[] {"  - {phases: [], task: unlearn}"},
            "unknown key phases[0].train.stepps",
                new String[] {"  - {task: unlearn, train: {stepps: 1}}"},
            "must be letters, digits", new String[] {"  - {task: unlearn, name: a/b}"});
    for (Map.Entry<String, String[]> entry : wrong.entrySet()) {
      String[] arguments = file("wrong", model(), entry.getValue());
      String err = run(2, arguments).err();
      assertTrue(err.contains(entry.getKey()), err);
      assertFalse(Files.exists(runs.resolve("wrong")), err);
    }
    String[] noModel = file("wrong", "seed: 1", "  - {task: unlearn}");
    assertTrue(run(2, noModel).err().contains("model is not set"));
  }

  @Test
  void validateChecksEveryPhase() throws IOException {
    String good = "  - {task: unlearn}";
    String[] arguments = file("checked", model(), good, good.replace("}", ", train: {steps: 5}}"));
    run(0, "validate", arguments[2]);
    Map<String, String> wrong =
        Map.of(
            "  - {task: unlearn, method: {forget: NOP}}", "phases[1].method",
            "  - {task: unlearn, data: {forget: [none.jsonl]}}", "none.jsonl",
            "  - {task: unlearn, train: {warmup_steps: 9}}", "the run has 3 (train.steps)",
            "  - {task: unlearn, evaluate: {every: 9 steps}}", "it would never happen");
    for (Map.Entry<String, String> entry : wrong.entrySet()) {
      String file = file("checked", model(), good, entry.getKey())[2];
      TestConsole console = run(2, "validate", file);
      String said = console.out() + console.err();
      assertTrue(said.contains(entry.getValue()), said);
      assertTrue(said.contains("phases[1]"), said);
    }
    assertFalse(Files.exists(runs.resolve("checked")));
  }

  @Test
  void whatWasLearntIsTakenAwayBeforeSomethingElseIsLearnt() throws IOException {
    // "Forgetting before learning": base - lambda * old, then new on top; nothing is merged.
    run(
        0,
        file(
            "before",
            model(),
            "  - {task: finetune, name: old, train: {learning_rate: 1e-2, steps: 30}}",
            "  - {task: evaluate, name: negated, adapter_coefficient: -1}",
            "  - {task: unlearn, name: new, adapter_coefficient: -0.5, method: {forget: NPO,"
                + " retain: GD}}",
            "  - {task: evaluate}"));
    Path out = runs.resolve("before");
    assertEquals(
        List.of("01-old", "02-negated", "03-new", "04-evaluate", "config.yaml", "run.json"),
        names(out));
    Path old = out.resolve("01-old/adapter");
    Path trained = out.resolve("03-new");
    // To take it away undoes it, whatever the phase between looked at; step 0 of NPO is that of a
    // policy that is its reference.
    run(
        0,
        runs.evaluate(
            "before-old", "adapter=" + old, "evaluate.max_new_tokens=4", "evaluate.rows=2"));
    double given = probability(out.resolve("02-negated"));
    assertTrue(
        given < 0.99 * probability(runs.resolve("before-old")),
        "negated: " + given + " of " + probability(runs.resolve("before-old")));
    assertEquals(2 / 0.1 * Math.log(2), firstNpo(trained), 1e-4);
    String[] sum = {
      "combine",
      "--adapter",
      old + ":-0.5",
      "--adapter",
      trained.resolve("adapter").toString(),
      "--base-model",
      runs.model().toString(),
      "-o",
      runs.resolve("before-sum").toString()
    };
    run(0, sum);
    assertEquals(
        TinyRuns.contents(runs.resolve("before-sum")),
        TinyRuns.contents(trained.resolve("combined")));
    // The sum, as one adapter on the base, is what the phase made and the last one judged.
    run(
        0,
        runs.evaluate(
            "before-one",
            "adapter=" + runs.resolve("before-sum"),
            "evaluate.max_new_tokens=4",
            "evaluate.rows=2"));
    assertEquals(
        probability(out.resolve("04-evaluate")), probability(runs.resolve("before-one")), 1e-5);
    assertEquals(
        Files.readString(trained.resolve("evaluation/evaluation.json")),
        Files.readString(out.resolve("04-evaluate/evaluation.json")));
  }

  private static double probability(Path evaluation) throws IOException {
    return new ObjectMapper()
        .readTree(Files.readString(evaluation.resolve("evaluation.json")))
        .path("sets")
        .path("forget")
        .path("probability")
        .asDouble();
  }
}
