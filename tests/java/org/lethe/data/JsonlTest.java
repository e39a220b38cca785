package org.lethe.data;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.io.IOException;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Arrays;
import java.util.List;
import java.util.Locale;
import org.junit.jupiter.api.Tag;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;
import org.lethe.Tofu;
import org.lethe.UserException;

class JsonlTest {
  @TempDir Path directory;

  private Path file(String text) throws IOException {
    return Files.writeString(directory.resolve("rows.jsonl"), text);
  }

  private String refusal(Path file) {
    return assertThrows(UserException.class, () -> Jsonl.read(file)).getMessage();
  }

  @Test
  void linesWithBlanksAndWindowsEndsKeepTheirNumbers() throws IOException {
    Path file =
        file(
            "\uFEFF{\"question\":\"q1\",\"answer\":\"a1\"}\r\n\n   \n"
                + "{\"question\":\"q2\",\"answer\":\"a2\\nb\",\"task_id\":3}");
    List<Example> rows = Jsonl.read(file);
    assertEquals(2, rows.size());
    assertEquals(new Example("q1", "a1", List.of(), List.of(), file + ":1"), rows.get(0));
    assertEquals(new Example("q2", "a2\nb", List.of(), List.of(), file + ":4"), rows.get(1));
  }

  @Test
  void tofuFieldsAreStringsOrLists() throws IOException {
    Path file =
        file(
            "{\"question\":\"q\",\"answer\":\"a\",\"paraphrased_answer\":\"p\","
                + "\"perturbed_answer\":[\"x\",\"y\"],\"paraphrased_question\":\"r\"}\n"
                + "{\"question\":\"q\",\"answer\":\"a\",\"paraphrased_answer\":[\"p1\",\"p2\"],"
                + "\"perturbed_answer\":\"x\"}\n");
    List<Example> rows = Jsonl.read(file);
    assertEquals(List.of("p"), rows.get(0).paraphrasedAnswers());
    assertEquals(List.of("x", "y"), rows.get(0).perturbedAnswers());
    assertEquals(List.of("p1", "p2"), rows.get(1).paraphrasedAnswers());
    assertEquals(List.of("x"), rows.get(1).perturbedAnswers());
  }

  @Test
  void anArrayIsReadWithItsLines() throws IOException {
    Path file =
        file(
            " [\n{\"prompt\":\"q1\",\"answer\":\"a1\"},\n\n  {\n\"question\":\"q2\","
                + "\"answer\":\"a2\"}]\n");
    List<Example> rows = Jsonl.read(file);
    assertEquals(List.of("q1", "q2"), rows.stream().map(Example::question).toList());
    assertEquals(file + ":2", rows.get(0).source());
    assertEquals(file + ":4", rows.get(1).source());
  }

  @ParameterizedTest
  @CsvSource(
      delimiter = '|',
      quoteCharacter = '~',
      value = {
        "{\"answer\":\"a\"} | no field \"question\"",
        "{\"question\":\"q\",\"output\":\"a\"} | no field \"answer\"; the row has [question,"
            + " output]",
        "{\"question\":\"q\",\"answer\":7} | field \"answer\" must be a string, found number",
        "{\"question\":\"q\",\"answer\":null} | field \"answer\" must be a string, found null",
        "{\"question\":\"q\",\"answer\":\" \"} | field \"answer\" is blank",
        "{\"question\":\"q\",\"prompt\":\"q\",\"answer\":\"a\"} | both \"question\" and \"prompt\"",
        "{\"question\":\"q\",\"question\":\"r\",\"answer\":\"a\"} | Duplicate",
        "{\"question\":\"q\",\"answer\":\"a\",\"perturbed_answer\":[\"x\",1]} |"
            + " \"perturbed_answer[1]\"",
        "{\"question\":\"q\",\"answer\":\"a\",\"paraphrased_question\":[]} |"
            + " \"paraphrased_question\"",
        "{\"question\":\"q\",\"answer\":\"\\ud83d\"} | surrogate",
        "{\"question\":\"q\",\"answer\":\"a\"} {} | not a JSON row",
        "{\"question\":\"q\",\"answer\":\"a\" | not a JSON row",
        "\"question\" | must be a JSON object",
        "{\"question\":\"q\",\"answer\":\"a\",\"alternate\":[3]} | field \"alternate[0]\" must be"
            + " a",
        "{\"question\":\"q\",\"answer\":\"ab\",\"sensitive_spans\":[\"c\"]} | \"c\" does not stand"
            + " in",
        "{\"question\":\"q\",\"answer\":\"ab\",\"sensitive_spans\":[\"\"]} | \"\" does not stand"
            + " in",
        "{\"question\":\"q\",\"answer\":\"ab\",\"sensitive_spans\":[[0,3]]} | 0 <= from < to <= 2",
        "{\"question\":\"q\",\"answer\":\"ab\",\"sensitive_spans\":[[1,1]]} | is no part of the"
            + " answer",
        "{\"question\":\"q\",\"answer\":\"ab\",\"sensitive_spans\":[1]} | is no part of the answer",
        "{\"question\":\"q\",\"answer\":\"ab\",\"sensitive_spans\":\"ab\"} | must be a list of",
      })
  void aBadRowIsNamedByLineAndField(String row, String expected) throws IOException {
    Path file = file("{\"question\":\"q\",\"answer\":\"a\"}\n\n" + row + "\n");
    String message = refusal(file);
    assertTrue(message.startsWith(file + ":3: "), message);
    assertTrue(message.contains(expected), message);
    assertTrue(message.endsWith("."), message);
  }

  @Test
  void alternatesAndSensitiveSpans() throws IOException {
    List<Example> rows =
        Jsonl.read(
            file(
                "{\"question\":\"q\",\"answer\":\"a\",\"alternate\":\"b\"}\n"
                    + "{\"question\":\"q\",\"answer\":\"\uD83D\uDE00 ab"
                    + " cab\",\"alternate\":[\"x\",\"y\"],\"sensitive_spans\":[\"ab\",[6,7],[0,1]]}\n"));
    assertEquals(List.of("b"), rows.get(0).alternateAnswers());
    assertEquals(List.of(), rows.get(0).sensitive());
    assertEquals(List.of("x", "y"), rows.get(1).alternateAnswers());
    // Characters are code points: the face is one. The last two pieces overlap and become one.
    assertEquals(
        List.of(new Passage(0, 1), new Passage(2, 4), new Passage(6, 8)), rows.get(1).sensitive());
  }

  @Test
  void aBadRowOfAnArrayIsNamedByLine() throws IOException {
    Path missing = file("[{\"question\":\"q\",\"answer\":\"a\"},\n{\"question\":\"q\"}]");
    assertTrue(refusal(missing).startsWith(missing + ":2: no field \"answer\""));
    Path number = file("[\n3]");
    assertTrue(refusal(number).startsWith(number + ":2: a row must be"));
    Path twice = file("[{\"question\":\"q\",\n\"question\":\"q\",\"answer\":\"a\"}]");
    assertTrue(refusal(twice).startsWith(twice + ":2: not a JSON row: Duplicate"));
    Path open = file("[{\"question\":\"q\",\"answer\":\"a\"}\n");
    assertTrue(refusal(open).contains("not a JSON row"));
    Path tail = file("[{\"question\":\"q\",\"answer\":\"a\"}]\n{}");
    assertTrue(refusal(tail).startsWith(tail + ":2: something follows"));
  }

  @Test
  void emptyFilesMissingFilesAndWrongEncodingsAreNamed() throws IOException {
    for (String nothing : List.of("", "\n \n", "\uFEFF", "[]")) {
      assertTrue(refusal(file(nothing)).contains("holds no rows"), nothing);
    }
    assertTrue(refusal(directory.resolve("absent.jsonl")).contains("does not exist"));
    assertTrue(refusal(directory).contains("cannot be read"));
    Path latin = directory.resolve("latin.jsonl");
    Files.write(
        latin,
        "{\"question\":\"q\",\"answer\":\"a\"}\n{\"question\":\"é\",\"answer\":\"a\"}\n"
            .getBytes(StandardCharsets.ISO_8859_1));
    assertTrue(refusal(latin).startsWith(latin + ":2: not valid UTF-8"), refusal(latin));
    Path cut = directory.resolve("cut.jsonl");
    byte[] whole = "{\"question\":\"q\",\"answer\":\"日".getBytes(StandardCharsets.UTF_8);
    Files.write(cut, Arrays.copyOf(whole, whole.length - 1));
    assertTrue(refusal(cut).startsWith(cut + ":1: not valid UTF-8"), refusal(cut));
  }

  @Test
  @Tag("tofu")
  void tofuLoads() {
    Path data = Tofu.directory();
    assertEquals(4000, Jsonl.read(data.resolve("full.json")).size());
    for (String name : List.of("forget10_perturbed.json", "retain_perturbed.json")) {
      List<Example> rows = Jsonl.read(data.resolve(name));
      assertEquals(400, rows.size(), name);
      for (Example row : rows) {
        assertEquals(1, row.paraphrasedAnswers().size(), row.source());
        assertEquals(5, row.perturbedAnswers().size(), row.source());
      }
    }
    assertEquals(40, Jsonl.read(data.resolve("forget01_perturbed.json")).size());
    assertEquals(200, Jsonl.read(data.resolve("forget05_perturbed.json")).size());
    List<Example> world = Jsonl.read(data.resolve("world_facts_perturbed.json"));
    assertEquals(117, world.size());
    assertEquals(3, world.get(0).perturbedAnswers().size());
    assertEquals(100, Jsonl.read(data.resolve("real_authors_perturbed.json")).size());
    for (int percent : List.of(1, 5, 10)) {
      List<Example> holdout =
          Jsonl.read(data.resolve(String.format(Locale.ROOT, "holdout%02d.json", percent)));
      assertEquals(percent * 40, holdout.size());
    }
  }
}
