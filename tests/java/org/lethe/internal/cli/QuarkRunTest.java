package org.lethe.internal.cli;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertTrue;

import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.Map;
import java.util.TreeMap;
import org.junit.jupiter.api.BeforeAll;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.lethe.Hashes;

/** Quark on the tiny corpus, through the command line: rounds, pool, training, resumption. */
class QuarkRunTest {
  /** Bytes that no text in UTF-8 holds, as a byte-level vocabulary spells them. */
  private static final String TOKENS = "quark.tokens=[\"\u00c0\", \"\u00c1\", \"\u00f5\"]";

  @TempDir static Path dir;
  private static TinyRuns runs;

  @BeforeAll
  static void train() {
    runs = new TinyRuns(dir).fineTuned();
  }

  private static TestConsole run(int expected, String... arguments) {
    TestConsole console = new TestConsole(false);
    assertEquals(expected, Main.run(console.console(), arguments), console.err());
    return console;
  }

  private static String[] quark(String output, String... more) {
    List<String> all = new ArrayList<>();
    all.addAll(List.of("quark.quantiles=3", "quark.max_new_tokens=8", "evaluate.rows=2"));
    all.addAll(List.of(more));
    return runs.unlearn(output, "Quark+none", all.toArray(String[]::new));
  }

  private static List<JsonNode> round(String output, int round) throws IOException {
    List<JsonNode> lines = new ArrayList<>();
    Path file = runs.resolve(output).resolve("pool/round-0000" + round + ".jsonl");
    for (String line : Files.readAllLines(file)) {
      lines.add(new ObjectMapper().readTree(line));
    }
    return lines;
  }

  private static double meanReward(String output, int round) throws IOException {
    List<JsonNode> lines = round(output, round);
    return lines.get(lines.size() - 1).get("mean_reward").asDouble();
  }

  @Test
  void theRewardRisesFromRoundToRound() throws IOException {
    // A model that knows most of the answers, and still says other things when it is sampled.
    run(
        0,
        runs.finetune(
            "knows",
            "data.train=[" + runs.data("forget") + ", " + runs.data("retain") + "]",
            "train.steps=60",
            "train.batch_size=15",
            "train.learning_rate=1e-2"));
    run(
        0,
        quark(
            "rises",
            "model=" + runs.resolve("knows/model"),
            TOKENS,
            "data.forget=[" + runs.data("forget") + ", " + runs.data("retain") + "]",
            "quark.every=20",
            "quark.max_new_tokens=16",
            "train.steps=61",
            "train.batch_size=15",
            "train.learning_rate=1e-2"));
    List<JsonNode> first = round("rises", 0);
    assertEquals(16, first.size());
    for (int row = 0; row < 15; row++) {
      JsonNode line = first.get(row);
      assertEquals(row, line.get("row").asInt());
      String source = row < 6 ? "forget.jsonl:" + (row + 1) : "retain.jsonl:" + (row - 5);
      assertTrue(line.get("source").asText().endsWith(source), "" + line);
      int tokens = line.get("answer").size();
      assertTrue(tokens >= 1 && tokens <= 16, "" + line);
      double reward = line.get("reward").asDouble();
      assertTrue(reward >= 0 && reward <= 1, "" + line);
    }
    double before = meanReward("rises", 0);
    double after = meanReward("rises", 3);
    // 0.72 -> 0.91 with these draws; half of that is asked for, since kernels round differently.
    assertTrue(after > before + 0.1, before + " -> " + after);
    assertFalse(Files.exists(runs.resolve("rises/pool/round-00004.jsonl")));
  }

  @Test
  void retainQuestionsEarnTheOpposite() throws IOException {
    run(
        0,
        quark(
            "kept",
            TOKENS,
            "quark.every=2",
            "quark.retain_prompts=true",
            "quark.reward=refusal",
            "train.steps=1"));
    List<JsonNode> lines = round("kept", 0);
    assertEquals(6 + 9 + 1, lines.size());
    // The tuned model refuses nothing: what is to be forgotten earns 0, what is to be kept 1.
    assertEquals(0, lines.get(5).get("reward").asDouble());
    assertTrue(lines.get(6).get("source").asText().contains("retain.jsonl"));
    assertEquals(1, lines.get(6).get("reward").asDouble());
    assertEquals(0.6, meanReward("kept", 0), 1e-15);
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

  @Test
  void everyFileIsTheSameWhereverItStopped() throws IOException {
    Path out = runs.resolve("bits");
    int steps = 6;
    run(
        0,
        quark(
            "bits",
            TOKENS,
            "quark.every=2",
            "train.steps=" + steps,
            "train.learning_rate=1e-2",
            "checkpoint.every=1 step",
            "checkpoint.keep=99"));
    Map<String, String> whole = result(out);
    assertTrue(whole.containsKey("pool/round-00002.jsonl"), "" + whole.keySet());
    for (int step = 0; step < steps; step++) {
      for (String made : new String[] {"adapter", "evaluation", "report.md", "report.html"}) {
        TinyRuns.delete(out.resolve(made));
      }
      for (int later = step + 1; later <= steps; later++) {
        TinyRuns.delete(out.resolve(String.format("checkpoints/step-%09d", later)));
      }
      // The rounds that the run had not come to.
      for (int round = (step + 1) / 2; round < 3; round++) {
        TinyRuns.delete(out.resolve("pool/round-0000" + round + ".jsonl"));
      }
      run(0, "resume", out.toString());
      assertEquals(whole, result(out), "resumed after step " + step);
    }
  }

  @Test
  void aModelIsJudgedBehindAControlToken() throws IOException {
    run(0, runs.evaluate("plain", "evaluate.rows=2"));
    run(0, runs.evaluate("behind", "evaluate.rows=2", "evaluate.control_token=\u00c0"));
    JsonNode without = judged("plain");
    JsonNode with = judged("behind");
    assertEquals(without.get("answer_start").asInt() + 1, with.get("answer_start").asInt());
    List<Integer> expected = ids(without);
    List<Integer> found = ids(with);
    // Behind the bos token, where the prompt begins with one.
    found.remove(found.get(0).equals(expected.get(0)) ? 1 : 0);
    assertEquals(expected, found);
    assertFalse(without.get("probability").equals(with.get("probability")));
    String error = run(2, runs.evaluate("no", "evaluate.control_token=<none such>")).err();
    assertTrue(error.contains("evaluate.control_token: \"<none such>\" is no token"), error);
  }

  private static JsonNode judged(String output) throws IOException {
    Path file = runs.resolve(output).resolve("evaluation-rows.jsonl");
    return new ObjectMapper().readTree(Files.readAllLines(file).get(0));
  }

  private static List<Integer> ids(JsonNode row) {
    List<Integer> ids = new ArrayList<>();
    row.get("ids").forEach(id -> ids.add(id.asInt()));
    return ids;
  }

  @Test
  void aDamagedPoolIsNotLearntFrom() throws IOException {
    Path out = runs.resolve("damaged");
    run(0, quark("damaged", TOKENS, "quark.every=2", "train.steps=4", "checkpoint.every=3 steps"));
    for (String made : new String[] {"adapter", "evaluation", "report.md", "report.html"}) {
      TinyRuns.delete(out.resolve(made));
    }
    TinyRuns.delete(out.resolve("checkpoints/step-000000004"));
    Path file = out.resolve("pool/round-00000.jsonl");
    String text = Files.readString(file);
    Files.writeString(file, text.replaceFirst("\"row\":1", "\"row\":2"));
    String error = run(2, "resume", out.toString()).err();
    assertTrue(error.contains("round-00000.jsonl"), error);
    assertTrue(error.contains("its SHA-256 differs"), error);
    Files.delete(file);
    error = run(2, "resume", out.toString()).err();
    assertTrue(error.contains("cannot go on as it began"), error);
  }

  @Test
  void whatCannotBeIsNamedWithItsRemedy() {
    String none = run(2, quark("x")).err();
    assertTrue(none.contains("quark.tokens names 0 control tokens"), none);
    assertTrue(none.contains("quark.quantiles is 3; name one for each quantile"), none);
    String unknown = "quark.tokens=[\"\u00c0\", \"<no such token>\", \"\u00f5\"]";
    String error = run(2, quark("x", unknown)).err();
    assertTrue(error.contains("quark.tokens: \"<no such token>\" is no token of"), error);
    error = run(2, quark("x", "quark.tokens=[\"\u00c0\", \"\u00c0\", \"\u00f5\"]")).err();
    assertTrue(error.contains("is named twice"), error);
    error = run(2, quark("x", TOKENS, "quark.reward=toxicity")).err();
    assertTrue(error.contains("quark.reward: there is no reward \"toxicity\""), error);
    assertTrue(error.contains("[unlike, refusal]"), error);
    error = run(2, quark("x", TOKENS, "quark.temperature=0")).err();
    assertTrue(error.contains("quark: temperature must be above 0, but is 0.0"), error);
    error = run(2, quark("x", TOKENS, "quark.top_p=1.5")).err();
    assertTrue(error.contains("top_p must be above 0 and at most 1, but is 1.5"), error);
    error = run(2, quark("x", TOKENS, "quark.max_new_tokens=127")).err();
    assertTrue(error.contains("do not go into a context of 128"), error);
    error = run(2, quark("x", TOKENS, "train.steps_per_batch=2")).err();
    assertTrue(error.contains("set train.steps_per_batch=1"), error);
    assertFalse(Files.exists(runs.resolve("x")));
  }

  @Test
  void validateSeesItBeforeARun() throws IOException {
    Path file = runs.resolve("quark.yaml");
    Files.write(
        file,
        List.of(
            "model: " + runs.model(),
            "output: " + runs.resolve("v"),
            "data: {forget: ['" + runs.data("forget") + "']}",
            "method: {forget: Quark, retain: none}"));
    String[] validate = {"validate", "--for", "unlearn", file.toString(), "quark.quantiles=3"};
    String none = run(2, validate).out();
    assertTrue(none.contains("quark.tokens names 0 control tokens"), none);
    String[] unknown = Arrays.copyOf(validate, validate.length + 1);
    unknown[validate.length] = "quark.tokens=[\"\u00c0\", \"<none such>\", \"\u00f5\"]";
    String error = run(2, unknown).out();
    assertTrue(error.contains("\"<none such>\" is no token of"), error);
    unknown[validate.length] = TOKENS;
    run(0, unknown);
  }
}
