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
import java.util.stream.Stream;
import java.util.stream.StreamSupport;
import org.junit.jupiter.api.BeforeAll;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.TestInstance;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;

/** Grids of runs on a model of one layer, as the command line does them. */
@TestInstance(TestInstance.Lifecycle.PER_CLASS)
class SweepVerbTest {
  private static final String[] FOUR = {
    "--grid", "method=ME+GD,NPO+GD", "--grid", "method.forget_coefficient=0.2,1"
  };
  private static final List<String> NAMES =
      List.of(
          "001-me-gd-forget-coefficient-0.2",
          "002-me-gd-forget-coefficient-1",
          "003-npo-gd-forget-coefficient-0.2",
          "004-npo-gd-forget-coefficient-1");

  @TempDir static Path dir;
  private TinyRuns runs;
  private JsonNode four;

  /** One sweep that the tests look at. */
  @BeforeAll
  void sweep() throws IOException {
    runs = new TinyRuns(dir).fineTuned();
    run(0, runs.evaluate("unaware", "evaluate.rows=2"));
    four = json(run(0, arguments("four", FOUR, "--json")));
  }

  private static TestConsole run(int expected, String... arguments) {
    TestConsole console = new TestConsole(false);
    assertEquals(expected, Main.run(console.console(), arguments), console.err());
    return console;
  }

  private static JsonNode json(TestConsole console) throws IOException {
    return new ObjectMapper().readTree(console.out());
  }

  private String[] arguments(String output, String[] grid, String... more) {
    List<String> all =
        new ArrayList<>(
            Arrays.asList(
                runs.unlearn(
                    output,
                    "GA+none",
                    "train.learning_rate=1e-2",
                    "evaluate.rows=2",
                    "evaluate.never_saw=" + runs.resolve("unaware/evaluation.json"),
                    "checkpoint.every=1 step",
                    "checkpoint.keep=9")));
    all.set(0, "sweep");
    all.addAll(List.of(grid));
    all.addAll(List.of(more));
    return all.toArray(String[]::new);
  }

  private static List<String> directories(Path sweep) throws IOException {
    try (Stream<Path> entries = Files.list(sweep)) {
      return entries
          .filter(Files::isDirectory)
          .map(d -> d.getFileName().toString())
          .sorted()
          .toList();
    }
  }

  /** What must be the same however the runs were made. */
  private static String board(JsonNode told) {
    List<String> rows = new ArrayList<>();
    for (JsonNode run : told.path("runs")) {
      ObjectNode row = run.deepCopy();
      row.remove("seconds");
      String name = Path.of(row.remove("directory").asText()).getFileName().toString();
      rows.add(name + " " + row);
    }
    return String.join("\n", rows) + told.path("references");
  }

  @Test
  void everyCombinationIsARunOfItsOwn() throws IOException {
    Path sweep = runs.resolve("four");
    assertEquals(NAMES, directories(sweep));
    JsonNode asked = new ObjectMapper().readTree(sweep.resolve("sweep.json").toFile());
    assertEquals(4, asked.path("runs").size());
    assertEquals("0.2", asked.at("/runs/2/values/method.forget_coefficient").asText());
    for (String name : NAMES) {
      assertTrue(Files.exists(sweep.resolve(name).resolve("report.html")), name);
      assertEquals(
          Files.readString(sweep.resolve("before.json")),
          Files.readString(sweep.resolve(name).resolve("evaluation-before.json")));
    }
    String config = Files.readString(sweep.resolve(NAMES.get(2)).resolve("config.yaml"));
    assertTrue(config.contains("forget: NPO\n") && config.contains("retain: GD\n"), config);
    assertTrue(config.contains("forget_coefficient: 0.2\n"), config);
  }

  @Test
  void theLeaderboardIsOrderedAndSaysItAll() throws IOException {
    double last = Double.POSITIVE_INFINITY;
    int fronts = 0;
    for (JsonNode run : four.path("runs")) {
      double forgotten = run.path("forgetting").asDouble();
      double kept = run.path("utility_kept").asDouble();
      assertEquals(kept(Path.of(run.path("directory").asText())), kept, 1e-12);
      double score = run.path("score").asDouble();
      double forget =
          (run.path("forget_probability").asDouble() + run.path("forget_rouge_l_recall").asDouble())
              / 2;
      assertEquals(1 - forget, forgotten, 1e-12);
      assertEquals(2 / (1 / forgotten + 1 / kept), score, 1e-12);
      assertTrue(score <= last, four.toString());
      last = score;
      fronts += run.path("pareto").asBoolean() ? 1 : 0;
      assertTrue(run.path("seconds").asDouble() > 0, run.toString());
      assertTrue(run.path("forget_quality").asDouble() > 0, run.toString());
      assertTrue(run.path("error").isNull(), run.toString());
      assertTrue(run.has("forget_refusal_rate") && run.has("retain_probability"), run.toString());
    }
    assertTrue(fronts >= 1, four.toString());
    JsonNode best = four.path("runs").path(0);
    assertEquals(1, best.path("rank").asInt());
    assertEquals(best.path("directory"), four.path("best"));
    assertEquals(List.of("before", "never saw"), texts(four.path("references"), "name"));
    assertEquals(0, four.path("failures").asInt());

    String markdown = Files.readString(runs.resolve("four/leaderboard.md"));
    assertTrue(markdown.startsWith("# Leaderboard of 4 runs\n"), markdown);
    assertTrue(markdown.contains("KS p-value"), markdown);
    String html = Files.readString(runs.resolve("four/leaderboard.html"));
    assertTrue(html.contains("class=\"front\"") && html.contains("never saw"), html);
  }

  /** Utility kept, from the run's files. */
  private static double kept(Path run) throws IOException {
    ObjectMapper mapper = new ObjectMapper();
    JsonNode before = mapper.readTree(run.resolve("evaluation-before.json").toFile());
    JsonNode after = mapper.readTree(run.resolve("evaluation/evaluation.json").toFile());
    List<Double> shares = new ArrayList<>();
    for (String set : List.of("retain", "general")) {
      for (String metric : List.of("probability", "rouge_l_recall")) {
        String score = "/sets/" + set + "/" + metric;
        // The model is so small that it says no right word of some sets.
        if (before.at(score).asDouble() > 0) {
          shares.add(Math.min(1, after.at(score).asDouble() / before.at(score).asDouble()));
        }
      }
    }
    assertTrue(shares.size() >= 2, shares.toString());
    return shares.stream().mapToDouble(Double::doubleValue).average().orElseThrow();
  }

  private static List<String> texts(JsonNode list, String key) {
    return StreamSupport.stream(list.spliterator(), false).map(n -> n.path(key).asText()).toList();
  }

  @Test
  void theCommandMakesTheBestRunAgain() {
    String[] words = four.path("command").asText().split(" ", -1);
    assertEquals("lethe", words[0]);
    String[] arguments = Arrays.copyOfRange(words, 1, words.length);
    arguments[arguments.length - 1] = "output=" + runs.resolve("again");
    run(0, arguments);
    assertEquals(
        TinyRuns.contents(Path.of(four.path("best").asText()).resolve("adapter")),
        TinyRuns.contents(runs.resolve("again/adapter")));
  }

  @Test
  void sideBySideGivesTheSame() throws IOException {
    TestConsole console = run(0, arguments("beside", FOUR, "--json", "--parallel", "3"));
    assertEquals(board(four), board(json(console)));
    for (String name : NAMES) {
      assertEquals(
          TinyRuns.contents(runs.resolve("four").resolve(name).resolve("adapter")),
          TinyRuns.contents(runs.resolve("beside").resolve(name).resolve("adapter")));
    }
  }

  @Test
  void anInterruptedSweepGoesOnToTheSameLeaderboard() throws IOException {
    Path sweep = runs.resolve("broken");
    TestConsole console = new TestConsole(false);
    console.console().stop().request("a test");
    assertEquals(4, Main.run(console.console(), arguments("broken", FOUR)), console.err());
    assertTrue(console.err().contains("stopped by a test; 0 of 4 runs are done"), console.err());
    assertTrue(console.err().contains("lethe resume " + sweep), console.err());
    assertFalse(Files.exists(sweep.resolve("leaderboard.html")));
    assertTrue(run(0, "resume", sweep.toString()).out().contains("Written to " + sweep));
    // As if it had died in the second run, before the third and the fourth.
    Path second = sweep.resolve(NAMES.get(1));
    for (String later :
        List.of(
            "report.md", "report.html", "adapter", "evaluation", "checkpoints/step-000000004")) {
      TinyRuns.delete(second.resolve(later));
    }
    TinyRuns.delete(sweep.resolve(NAMES.get(2)));
    TinyRuns.delete(sweep.resolve(NAMES.get(3)).resolve("run.json"));
    Files.delete(sweep.resolve(NAMES.get(3)).resolve("report.md"));
    TestConsole again = run(0, arguments("broken", FOUR, "--resume", "--json", "--parallel", "2"));
    assertTrue(again.err().contains("note: 1 of 4 runs are done and kept"), again.err());
    assertTrue(again.err().contains("note: 2/4: goes on after step 3"), again.err());
    assertEquals(board(four), board(json(again)));
    assertTrue(run(0, "resume", sweep.toString()).out().contains("had come to its end before"));
  }

  @Test
  void aRunThatFailsIsRankedLastAndTheOthersGoOn() throws IOException {
    // Adam moves every weight by its rate: after one step nothing is finite.
    String[] grid = {"--grid", "train.learning_rate=1e38,1e-2"};
    TestConsole console = run(2, arguments("failed", grid, "--json"));
    JsonNode told = json(console);
    assertEquals(List.of("2", "1"), texts(told.path("runs"), "number"));
    JsonNode failed = told.path("runs").path(1);
    assertTrue(failed.path("error").asText().contains("is not finite"), failed.toString());
    assertTrue(failed.path("rank").isNull() && !failed.path("pareto").asBoolean());
    assertTrue(console.err().contains("1 of 2 runs failed"), console.err());
    String markdown = Files.readString(runs.resolve("failed/leaderboard.md"));
    assertTrue(markdown.contains("| failed |"), markdown);
    assertTrue(markdown.contains("- Run 1, learning\\_rate=1e38: step 1: "), markdown);
    // It would fail again; the others are kept.
    TestConsole again = run(2, arguments("failed", grid, "--json", "--resume"));
    assertEquals(told, json(again));
    assertFalse(again.err().contains("2/2"), again.err());
  }

  @ParameterizedTest
  @CsvSource(
      delimiter = '|',
      value = {
        "method=ME+GD,NPO+GX | run 2 (NPO+GX): method.retain: there is no loss \"GX\"",
        "method=NPO | is not FORGET+RETAIN",
        "method.forget=ME,NPO;method=ME+GD | drop one",
        "train.epoch=1,2 | unknown key train.epoch; did you mean train.epochs",
        "train.learning_rate=1e-3,fast | run 2 (learning_rate=fast): ",
        "train.learning_rate=1e-3,-1 | run 2 (learning_rate=-1): ",
        "train.warmup_steps=0,9 | run 2 of 2 (warmup_steps=9): the learning rate would rise",
        "evaluate.every=2 steps,1 minute | must not depend on the clock",
        "lora.targets=[q_proj],[q_prj] | run 2",
        "data.forget=[nowhere.jsonl] | nowhere.jsonl",
        "method.forget_coefficient=1,1.0 | are the same run",
        "output=a,b | output cannot be swept",
        "seed=[1,2] | seed",
        "'seed=1,2,3,4;lora.rank=1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17' | has 68 combinations"
      })
  void theWholeGridIsCheckedBeforeAnythingRuns(String grid, String message) {
    List<String> options = new ArrayList<>();
    for (String axis : grid.split(";", -1)) {
      options.addAll(List.of("--grid", axis));
    }
    TestConsole console = run(2, arguments("never", options.toArray(String[]::new)));
    assertTrue(console.err().contains(message), console.err());
    assertFalse(Files.exists(runs.resolve("never")), console.err());
    assertEquals("", console.out());
  }

  @Test
  void whatCannotBeIsRefused() throws IOException {
    String none = run(2, arguments("never", new String[0])).err();
    assertTrue(none.contains("there is no grid"), none);
    assertTrue(run(2, arguments("never", FOUR, "--max", "3")).err().contains("more by --max"));
    assertTrue(run(2, arguments("never", FOUR, "--parallel", "0")).err().contains("--parallel"));
    assertTrue(run(2, arguments("four", FOUR)).err().contains("is not empty"));
    String[] other = {"--grid", "seed=1,2"};
    String another = run(2, arguments("four", other, "--resume")).err();
    assertTrue(another.contains("was begun with another grid"), another);
    String changed = run(2, arguments("four", FOUR, "--resume", "seed=5")).err();
    assertTrue(changed.contains("was begun with another configuration"), changed);
    assertFalse(Files.exists(runs.resolve("never")));
    assertTrue(Files.exists(runs.resolve("four/leaderboard.html")));
  }

  @Test
  void aGridFileAndATableForPeople() throws IOException {
    Path file = runs.resolve("grid.yaml");
    Files.writeString(file, "seed: [1]\n");
    TestConsole console =
        run(0, arguments("filed", new String[] {"--grid-file", file.toString()}, "--resume"));
    String out = console.out();
    assertTrue(out.matches("(?s)no\\. +run +front +score .*"), out);
    assertTrue(out.matches("(?s).*\\n *1  seed=1 +yes .*"), out);
    assertTrue(out.contains("Best by score: run 1, seed=1, with a score of 0."), out);
    assertTrue(out.contains("To make it again: lethe unlearn --config "), out);
    assertTrue(out.endsWith("Leaderboard: " + runs.resolve("filed/leaderboard.html") + "\n"), out);
    assertTrue(console.err().contains("once for all runs"), console.err());
    run(0, arguments("filed", new String[] {"--grid", "seed=2"}, "--overwrite"));
    assertEquals(List.of("001-seed-2"), directories(runs.resolve("filed")));
  }
}
