package org.lethe.internal.cli;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertNotEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import org.junit.jupiter.api.BeforeAll;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.lethe.data.Example;
import org.lethe.data.Jsonl;

/** Alternates that a model makes up, through the command line. */
class AlternatesVerbTest {
  @TempDir static Path root;
  private static TinyRuns runs;

  @BeforeAll
  static void tune() {
    runs = new TinyRuns(root).fineTuned();
  }

  private static final String BRIEF = "--instruction=Other facts.";

  private static TestConsole run(int expected, String output, String... more) {
    List<String> arguments = new ArrayList<>();
    arguments.addAll(List.of("alternates", "--model", runs.model().toString()));
    arguments.addAll(List.of("--threads=1", "--max-new-tokens=8"));
    arguments.addAll(List.of("-o", runs.resolve(output).toString()));
    arguments.addAll(Arrays.asList(more));
    arguments.add(runs.data("forget").toString());
    TestConsole console = new TestConsole(false);
    assertEquals(
        expected, Main.run(console.console(), arguments.toArray(String[]::new)), console.err());
    return console;
  }

  @Test
  void rowsKeepWhatTheyHadAndGetAlternates() throws IOException {
    String out = run(0, "made.jsonl", BRIEF, "--repeats=3").out();
    List<Example> given = Jsonl.read(runs.data("forget"));
    List<Example> made = Jsonl.read(runs.resolve("made.jsonl"));
    assertEquals(given.size(), made.size());
    int alternates = 0;
    for (int i = 0; i < made.size(); i++) {
      Example row = made.get(i);
      assertEquals(given.get(i).question(), row.question());
      assertEquals(given.get(i).answer(), row.answer());
      assertEquals(given.get(i).perturbedAnswers(), row.perturbedAnswers());
      assertTrue(row.alternateAnswers().stream().noneMatch(a -> a.equals(row.answer())));
      alternates += row.alternateAnswers().size();
    }
    assertTrue(alternates > made.size() && alternates <= 3 * made.size(), out);
    assertTrue(out.contains(alternates + " alternates"), out);
    run(0, "again.jsonl", BRIEF, "--repeats=3");
    assertEquals(
        Files.readString(runs.resolve("made.jsonl")),
        Files.readString(runs.resolve("again.jsonl")));
    run(0, "other.jsonl", BRIEF, "--repeats=3", "--seed=1");
    assertNotEquals(
        Files.readString(runs.resolve("made.jsonl")),
        Files.readString(runs.resolve("other.jsonl")));
  }

  @Test
  void flatLinesAreThoseOfOpenUnlearning() throws IOException {
    run(0, "flat.jsonl", BRIEF, "--repeats=2", "--flat", "--prompt=Q: {question}\nA:");
    for (String line : Files.readAllLines(runs.resolve("flat.jsonl"))) {
      assertTrue(
          line.matches("\\{\"question\":\".*\",\"answer\":\".*\",\"alternate\":\".+\"}"), line);
    }
  }

  @Test
  void refusesWhatCannotBe() throws IOException {
    assertTrue(run(2, "bad", "--repeats=0").err().contains("--repeats is 0"));
    assertTrue(run(2, "bad", "--temperature=0").err().contains("--temperature is 0.0"));
    assertTrue(run(2, "bad", "--prompt=none").err().contains("{question} exactly once"));
    String instruction = "--instruction=" + "many words ".repeat(200);
    String full = run(2, "bad", instruction).err();
    assertTrue(full.contains("no room for an alternate"), full);
    Files.writeString(runs.resolve("there.jsonl"), "");
    assertTrue(run(2, "there.jsonl").err().contains("exists"));
  }
}
