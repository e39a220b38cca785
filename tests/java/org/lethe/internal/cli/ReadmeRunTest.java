package org.lethe.internal.cli;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.LinkedHashSet;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.regex.Matcher;
import java.util.regex.Pattern;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

/**
 * Every command that the README shows, run in its order on a tiny model: names of files and
 * directories stand for those of a temporary directory, and numbers are made small.
 *
 * <p>Not here: what the script does itself ({@link ReadmeTest}), and the demo, which {@code
 * .ci/run} runs.
 */
class ReadmeRunTest {
  private static final Pattern NAMES =
      Pattern.compile(
          "(?<![\\w/.-])(runs/[\\w/-]+|(?:rows|forget|retain)\\.jsonl|(?:run|phases)\\.yaml"
              + "|MODEL_DIR|OUT_DIR|DIR|PATH|merged|small)(?![\\w.])");
  private static final List<String> SMALL =
      List.of(
          "threads=1",
          "train.steps=2",
          "train.batch_size=3",
          "evaluate.rows=1",
          "evaluate.max_new_tokens=2");
  private static final Set<String> TRAIN = Set.of("finetune", "unlearn", "sweep");

  @TempDir Path dir;

  /** The verbs of all lines, each once: a verb that the README begins to show is run, too. */
  @Test
  void everyCommandRuns() throws IOException {
    TinyRuns runs = new TinyRuns(dir).fineTuned();
    Set<String> verbs = new LinkedHashSet<>();
    for (String line : ReadmeTest.lines()) {
      List<String> words = ReadmeTest.words(line);
      String verb = words.get(0);
      if (ReadmeTest.OF_THE_SCRIPT.contains(verb) || verb.equals("demo")) {
        continue;
      }
      verbs.add(verb);
      prepare(runs, verb);
      String[] arguments = arguments(runs, words);
      TestConsole console = new TestConsole(false);
      int code = Main.run(console.console(), arguments);
      assertEquals(0, code, line + "\n" + String.join(" ", arguments) + "\n" + console.err());
      assertTrue(console.out().length() > 0, line);
    }
    assertTrue(verbs.size() >= 15, "the README shows fewer verbs than it did: " + verbs);
  }

  /** The files that a line takes for granted. */
  private void prepare(TinyRuns runs, String verb) throws IOException {
    Path file = dir.resolve("run.yaml");
    Files.deleteIfExists(file);
    if (verb.equals("init")) {
      return;
    }
    TestConsole console = new TestConsole(false);
    List<String> whole = new ArrayList<>(List.of("config", "model=" + runs.model()));
    whole.add("output=" + dir.resolve("out-" + verb));
    for (String part : List.of("forget", "retain", "general")) {
      whole.add("data." + part + "=[" + runs.data(part) + "]");
    }
    whole.addAll(SMALL);
    assertEquals(0, Main.run(console.console(), whole.toArray(String[]::new)), console.err());
    Files.writeString(file, console.out());
    String head = console.out().substring(0, console.out().indexOf("phases: []"));
    Files.writeString(
        dir.resolve("phases.yaml"), head + "phases: [{task: unlearn}, {task: evaluate}]\n");
  }

  private String[] arguments(TinyRuns runs, List<String> words) {
    Map<String, Path> places =
        Map.of(
            "DIR", runs.model(),
            "MODEL_DIR", runs.model(),
            "PATH", runs.model(),
            "rows.jsonl", runs.data("forget"),
            "forget.jsonl", runs.data("forget"),
            "retain.jsonl", runs.data("retain"));
    List<String> arguments = new ArrayList<>();
    for (String word : words) {
      Matcher matcher = NAMES.matcher(word);
      arguments.add(
          matcher.replaceAll(
              m ->
                  Matcher.quoteReplacement(
                      places.getOrDefault(m.group(1), dir.resolve(m.group(1))).toString())));
    }
    String verb = words.get(0);
    if (TRAIN.contains(verb)) {
      arguments.addAll(SMALL);
    } else if (verb.equals("evaluate")) {
      arguments.addAll(SMALL);
    } else if (verb.equals("generate")) {
      arguments.addAll(List.of("--max-new-tokens", "2"));
    } else if (verb.equals("bench")) {
      arguments.addAll(
          List.of("--size=4M", "--seconds=0.1", "--pairs=2", "--length=16", "--threads=1"));
    }
    return arguments.toArray(String[]::new);
  }
}
