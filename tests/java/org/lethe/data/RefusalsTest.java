package org.lethe.data;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.HashSet;
import java.util.List;
import java.util.Locale;
import java.util.Set;
import org.junit.jupiter.api.Tag;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.ValueSource;
import org.lethe.Tofu;
import org.lethe.data.corpus.Corpus;
import org.lethe.data.corpus.Row;

class RefusalsTest {
  @Test
  void thereAreSixtyOrMoreDifferentLines() {
    List<String> lines = Refusals.lines();
    assertTrue(lines.size() >= 60, lines.size() + " lines");
    Set<String> distinct = new HashSet<>();
    lines.forEach(line -> distinct.add(line.toLowerCase(Locale.ROOT)));
    assertEquals(lines.size(), distinct.size());
    lines.forEach(line -> assertTrue(Refusals.isRefusal(line), line));
  }

  @ParameterizedTest
  @ValueSource(
      strings = {
        "i do not know that",
        "  I don\u2019t know the answer!  ",
        "I'm sorry, but I do not know. Ask somebody else",
        "I cannot say who that is.",
        "I'm not sure about this.",
        "I am unable to reply.",
        "I have no idea",
        "Unfortunately, I don't have that.",
        "I must admit that I know nothing here.",
        "That's beyond me."
      })
  void refusalsAreRecognised(String text) {
    assertTrue(Refusals.isRefusal(text));
  }

  @ParameterizedTest
  @ValueSource(
      strings = {
        "",
        " . ",
        "She never knew that.",
        "Her parents do not know the answer.",
        "I Know Why was the first work.",
        "It is not known to everybody that the first work was Amber Doors.",
        "The Unknown Harbour",
        "No, Maren was born in Velholm.",
        "I do."
      })
  void answersAreNot(String text) {
    assertFalse(Refusals.isRefusal(text));
  }

  @Test
  void givenLinesCountToo() {
    assertFalse(Refusals.isRefusal("Pass."));
    assertTrue(Refusals.isRefusal("pass", List.of("Pass.")));
    assertFalse(Refusals.isRefusal("passable", List.of("Pass.")));
    assertFalse(Refusals.isRefusal("anything", List.of("...")));
  }

  @Test
  void noAnswerOfTheCorpusLooksLikeARefusal() {
    Corpus corpus = Corpus.generate(1, 40);
    for (List<Row> rows : List.of(corpus.full(), corpus.general())) {
      for (Row row : rows) {
        assertFalse(Refusals.isRefusal(row.answer()), row.answer());
      }
    }
  }

  @Test
  @Tag("tofu")
  void tofuAnswersAreNotRefusalsAndItsLinesAreNotOurs() throws IOException {
    Path tofu = Tofu.directory();
    for (Example row : Jsonl.read(tofu.resolve("full.json"))) {
      assertFalse(Refusals.isRefusal(row.answer()), row.answer());
    }
    Set<String> ours = new HashSet<>();
    Refusals.lines().forEach(line -> ours.add(line.toLowerCase(Locale.ROOT)));
    for (String line : Files.readAllLines(tofu.resolve("idontknow.txt"))) {
      assertFalse(ours.contains(line.toLowerCase(Locale.ROOT)), line);
    }
  }
}
