package org.lethe.internal.cli;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertTrue;
import static org.lethe.internal.cli.Outcome.assertFails;
import static org.lethe.internal.cli.Outcome.note;
import static org.lethe.internal.cli.Outcome.succeed;

import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.List;
import java.util.Map;
import java.util.regex.Pattern;
import org.junit.jupiter.api.BeforeAll;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.TestInstance;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;
import org.junit.jupiter.params.provider.ValueSource;
import org.lethe.model.Goldens;

/**
 * Every fault of the input beside the model: an exit code, a message that can be acted on, and
 * nothing lost.
 */
@TestInstance(TestInstance.Lifecycle.PER_CLASS)
class BadInputTest {
  private TinyRuns runs;
  private Path scratch;

  @BeforeAll
  void fineTune(@TempDir Path root) {
    runs = new TinyRuns(root).fineTuned();
    scratch = root;
  }

  @Test
  void aQuestionLongerThanTheModelsContext() {
    assertFails(
        2,
        new String[] {
          "generate", "--model", runs.model().toString(), "Who?", "who wrote this? ".repeat(200)
        },
        "question 2 takes ",
        "no room for an answer in the model's 128; shorten it");
  }

  @Test
  void answersMayBeAskedForWithoutEnd() {
    note(
        runs.unlearn(
            "endless",
            "ME+GD",
            "train.steps=1",
            "train.batch_size=2147483647",
            "evaluate.max_new_tokens=2147483647"));
  }

  @Test
  void anEmptyForgetSet() throws IOException {
    assertFails(
        2,
        runs.unlearn("no-forget", "ME+GD", "data.forget=[]"),
        "forget set is empty",
        "data.forget");
    runs.assertNothingAt("no-forget");
    Path file = Files.writeString(scratch.resolve("empty.jsonl"), "\n");
    assertFails(
        2,
        runs.unlearn("no-forget", "ME+GD", "data.forget=[" + file + "]"),
        file + " holds no rows");
    runs.assertNothingAt("no-forget");
    assertFails(
        2,
        runs.evaluate("no-sets", "data.forget=[]", "data.retain=[]", "data.general=[]"),
        "there is nothing to evaluate");
    runs.assertNothingAt("no-sets");
    assertFails(2, runs.finetune("no-rows", "data.train=[]"), "no rows to learn", "data.train");
    runs.assertNothingAt("no-rows");
  }

  @ParameterizedTest
  @ValueSource(strings = {"ME+GD", "NPO+KL", "IDK+AP"})
  void anEmptyRetainSetWhereTheLossNeedsOne(String method) {
    assertFails(
        2,
        runs.unlearn("no-retain", method, "data.retain=[]"),
        "retain set is empty",
        "data.retain",
        "method.retain=none");
    runs.assertNothingAt("no-retain");
  }

  @Test
  void anEmptyRetainSetIsFineWithoutARetainLoss() {
    note(runs.unlearn("only-forget", "GA+none", "data.retain=[]"));
    assertTrue(Files.exists(scratch.resolve("only-forget/adapter")));
  }

  @Test
  void aRowWithoutAField() throws IOException {
    Path file = scratch.resolve("rows.jsonl");
    Files.writeString(
        file, "{\"question\": \"Who?\", \"answer\": \"I.\"}\n\n{\"question\": \"Who?\"}\n");
    assertFails(
        2,
        runs.unlearn("bad-row", "ME+GD", "data.forget=[" + file + "]"),
        file + ":3: ",
        "\"answer\"");
    runs.assertNothingAt("bad-row");
  }

  @Test
  void anAnswerLongerThanTheContextIsCutAndCounted() {
    String err = note(runs.finetune("cut", "train.steps=1", "scratch.context_length=40"));
    assertTrue(
        Pattern.compile("note: [1-9]\\d* rows are longer than the context and were cut")
            .matcher(err)
            .find(),
        err);
    err = note(runs.evaluate("cut-judged", "data.context_length=40"));
    assertTrue(
        Pattern.compile("note: [1-9]\\d* answers were longer than the context and were cut")
            .matcher(err)
            .find(),
        err);
  }

  @Test
  void anAnswerLongerThanTheContextIsRefusedWhereAsked() {
    assertFails(
        2,
        runs.finetune("refused", "scratch.context_length=40", "data.on_too_long=refuse"),
        runs.data("forget") + ":",
        "more than the context of 40");
    runs.assertNothingAt("refused");
    assertFails(
        2,
        runs.unlearn("refused", "ME+GD", "data.context_length=40", "data.on_too_long=refuse"),
        runs.data("forget") + ":",
        "more than the context of 40");
    runs.assertNothingAt("refused");
  }

  @Test
  void unknownAndDuplicateKeys() throws IOException {
    Path file = scratch.resolve("run.yaml");
    Files.writeString(file, "model: m\noutput: o\ntrain:\n  epoch: 3\n");
    assertFails(2, new String[] {"unlearn", "-c", file.toString()}, file + ":4", "epoch", "epochs");
    Files.writeString(file, "model: m\noutput: o\ntrain:\n  epochs: 3\n  epochs: 4\n");
    assertFails(2, new String[] {"unlearn", "-c", file.toString()}, file + ":5", "epochs");
    assertFails(
        2, new String[] {"unlearn", "-c", scratch.resolve("no.yaml").toString()}, "no.yaml");
    assertFails(2, runs.unlearn("key", "ME+GD", "lora.targets=[q_proj, k_porj]"), "k_porj");
    assertFails(2, runs.unlearn("key", "MEE+GD"), "MEE", "ME");
    runs.assertNothingAt("key");
  }

  @Test
  void anOutputDirectoryThatIsNotEmpty() throws IOException {
    Path output = Files.createDirectories(scratch.resolve("full/sub")).getParent();
    Files.writeString(output.resolve("notes.txt"), "mine");
    Files.writeString(output.resolve("sub/more.txt"), "mine too");
    Map<String, String> before = TinyRuns.contents(output);
    assertFails(2, runs.unlearn("full", "ME+GD"), output + ": is not empty", "overwrit");
    assertFails(2, runs.finetune("full"), output + ": is not empty");
    assertFails(2, runs.evaluate("full"), output + ": is not empty");
    assertEquals(before, TinyRuns.contents(output));

    // The run gets as far as the second step.
    assertFails(
        2,
        runs.unlearn("full", "ME+GD", "--overwrite", "train.learning_rate=1e30"),
        "step 1: the ",
        "is not finite",
        runs.data("forget").toString() + ":");
    assertEquals(before, TinyRuns.contents(output));
    assertFails(
        2, runs.finetune("full", "--overwrite", "train.learning_rate=1e30"), "is not finite");
    assertEquals(before, TinyRuns.contents(output));

    note(runs.unlearn("full", "ME+GD", "--overwrite"));
    assertFalse(Files.exists(output.resolve("notes.txt")));
    assertTrue(Files.exists(output.resolve("adapter")));
    assertFalse(Files.exists(scratch.resolve(".full.replaced")));
  }

  @Test
  void aLinkToTheOutputDirectoryStaysALink() throws IOException {
    Path real = Files.createDirectories(scratch.resolve("real"));
    Files.writeString(real.resolve("old.txt"), "old");
    Path link = Files.createSymbolicLink(scratch.resolve("link"), real);
    note(runs.unlearn("link", "ME+GD", "--overwrite"));
    assertTrue(Files.isSymbolicLink(link));
    assertTrue(Files.exists(real.resolve("adapter")));
    assertFalse(Files.exists(real.resolve("old.txt")));
  }

  @Test
  void whatAnInterruptedRunWasToReplaceIsKept() throws IOException {
    Path aside = Files.createDirectories(scratch.resolve(".torn.replaced"));
    Files.writeString(aside.resolve("adapter.bin"), "the only copy");
    Path output = Files.createDirectories(scratch.resolve("torn"));
    Files.writeString(output.resolve("config.yaml"), "half a run");
    assertFails(2, runs.unlearn("torn", "ME+GD", "--overwrite"), aside.toString(), "move it back");
    assertEquals("the only copy", Files.readString(aside.resolve("adapter.bin")));
    assertEquals("half a run", Files.readString(output.resolve("config.yaml")));
    Files.delete(aside.resolve("adapter.bin"));
    Files.delete(aside);
  }

  @Test
  void anInputInsideTheOutputDirectory() throws IOException {
    Path model = runs.copyOfModel("inside/model");
    Map<String, String> before = TinyRuns.contents(scratch.resolve("inside"));
    String message = "lies in the output directory";
    assertFails(
        2,
        runs.unlearn("inside", "ME+GD", "--overwrite", "model=" + model),
        model + ": " + message);
    assertFails(2, runs.evaluate("inside", "--overwrite", "model=" + model), message);
    assertFails(2, runs.finetune("data", "--overwrite"), message);
    assertEquals(before, TinyRuns.contents(scratch.resolve("inside")));
    assertTrue(Files.exists(runs.data("forget")));
  }

  @Test
  void anAdapterOfAnotherBase() {
    Path adapter = Goldens.path("llama-tiny/adapter");
    assertFails(2, runs.evaluate("misfit", "adapter=" + adapter), adapter.toString());
    runs.assertNothingAt("misfit");
    Path nowhere = scratch.resolve("no-adapter");
    assertFails(2, runs.evaluate("misfit", "adapter=" + nowhere), nowhere.toString());
    assertFails(
        2,
        new String[] {
          "generate", "--model", runs.model().toString(), "--adapter", adapter.toString(), "Who?"
        },
        adapter.toString());
  }

  @Test
  void anAdapterThatTrainingWouldIgnore() {
    Path adapter = Goldens.path("llama-tiny/adapter");
    assertFails(2, runs.unlearn("ignored", "ME+GD", "adapter=" + adapter), "fresh adapters");
    assertFails(2, runs.finetune("ignored", "adapter=" + adapter), "fresh adapters");
    runs.assertNothingAt("ignored");
  }

  @ParameterizedTest
  @ValueSource(strings = {"NPO+GD", "DPO+GD", "ME+KL"})
  void aReferenceModelThatTrainsItself(String method) {
    assertFails(
        2,
        runs.unlearn("moving", method, "train.full_parameters=true"),
        method,
        "reference model",
        "train.full_parameters=false");
    runs.assertNothingAt("moving");
  }

  @Test
  void skippedStepsAreCounted() throws IOException {
    note(runs.unlearn("skipped", "ME+GD", "train.learning_rate=1e30", "train.on_non_finite=skip"));
    assertTrue(
        Files.readString(scratch.resolve("skipped/report.md"))
            .contains("3 of 4 updates left the parameters as they were"));
    List<String> metrics = Files.readAllLines(scratch.resolve("skipped/metrics.jsonl"));
    assertEquals(4, metrics.size());
    assertTrue(metrics.get(0).contains("\"applied\":true"), metrics.get(0));
    assertTrue(metrics.get(3).contains("\"applied\":false"), metrics.get(3));
  }

  @Test
  void aYardstickThatCannotBeRead() throws IOException {
    Path file = scratch.resolve("never-saw.json");
    assertFails(2, runs.evaluate("yardstick", "evaluate.never_saw=" + file), file.toString());
    Files.writeString(file, "{\"sets\"");
    assertFails(2, runs.evaluate("yardstick", "evaluate.never_saw=" + file), file.toString());
    Files.writeString(file, "{}");
    assertFails(2, runs.evaluate("yardstick", "evaluate.never_saw=" + file), "holds no sets");
    runs.assertNothingAt("yardstick");
  }

  @Test
  void refusalsThatCannotBeRead() throws IOException {
    Path file = scratch.resolve("refusals.txt");
    assertFails(2, runs.unlearn("mute", "IDK+AP", "data.refusals=" + file), file.toString());
    Files.writeString(file, " \n\n");
    assertFails(2, runs.unlearn("mute", "IDK+AP", "data.refusals=" + file), "holds no refusal");
    runs.assertNothingAt("mute");
  }

  @ParameterizedTest
  @CsvSource({
    "--max-new-tokens, 0",
    "--max-new-tokens, -1",
    "--temperature, -0.5",
    "--temperature, NaN",
    "--top-k, -1",
    "--top-p, 0",
    "--top-p, 1.5",
    "--threads, -1"
  })
  void anOptionOutOfRange(String option, String value) {
    assertFails(
        2,
        new String[] {"generate", "--model", runs.model().toString(), option, value, "Who?"},
        option + " is ",
        "must be ");
  }

  @Test
  void asManyNewTokensAsAnIntHolds() {
    succeed(
        "generate", "--model", runs.model().toString(), "--max-new-tokens", "2147483647", "Who?");
  }

  @Test
  void aDeviceThatIsNotThere() {
    assertFails(3, runs.unlearn("device", "ME+GD", "device=abacus"), "abacus");
    runs.assertNothingAt("device");
    for (String device : List.of("cuda:", "cuda:x", "cuda:-1", "cuda:99999999999", "cpu:0")) {
      assertFails(2, runs.unlearn("device", "ME+GD", "device='" + device + "'"), device);
      runs.assertNothingAt("device");
    }
  }

  @Test
  void anOutputThatCannotBeMade() throws IOException {
    Files.writeString(scratch.resolve("file"), "x");
    assertFails(2, runs.unlearn("file", "ME+GD"), "is a file");
    assertFails(3, runs.unlearn("file/below", "ME+GD"), "file");
    assertEquals("x", Files.readString(scratch.resolve("file")));
  }

  @Test
  void demoOptions() {
    String[] demo = {"demo", "--output", scratch.resolve("demo").toString(), "", ""};
    String[][] cases = {
      {"--people", "1"}, {"--people", "500"}, {"--forget", "0"}, {"--forget", "1"},
      {"--epochs", "0"}, {"--methods", "ME"}, {"--methods", "ME+GD,ME+GD"}, {"--seed", "x"}
    };
    for (String[] option : cases) {
      System.arraycopy(option, 0, demo, 3, 2);
      assertFails(2, demo.clone());
      runs.assertNothingAt("demo");
    }
  }
}
