package org.lethe.data.corpus;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.HashSet;
import java.util.List;
import java.util.Set;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.ValueSource;
import org.lethe.UserException;
import org.lethe.data.Example;
import org.lethe.data.Jsonl;
import org.lethe.data.Refusals;

class CorpusTest {
  @TempDir Path directory;

  @ParameterizedTest
  @ValueSource(longs = {1, 2, 3})
  void peopleHaveTheirOwnNamesAndTenQuestionsThatNameThem(long seed) {
    Corpus corpus = Corpus.generate(seed, 40);
    Set<String> first = new HashSet<>();
    Set<String> last = new HashSet<>();
    Set<String> questions = new HashSet<>();
    for (Person person : corpus.people()) {
      String[] name = person.name().split(" ", -1);
      assertEquals(2, name.length);
      assertTrue(first.add(name[0]) && last.add(name[1]), person.name());
      assertEquals(10, person.rows().size());
      for (Row row : person.rows()) {
        assertTrue(row.question().contains(person.name()), row.question());
        assertTrue(row.paraphrasedQuestion().contains(person.name()), row.paraphrasedQuestion());
        assertTrue(questions.add(row.question()), row.question());
      }
    }
    first.retainAll(last);
    assertTrue(first.isEmpty(), "both first and last: " + first);
    assertEquals(40, corpus.people().size());
    assertEquals(400, corpus.full().size());
  }

  @ParameterizedTest
  @ValueSource(longs = {1, 2, 3})
  void answersAreOneShortSentenceAndWrongOnesAreWrong(long seed) {
    Corpus corpus = Corpus.generate(seed, 40);
    Set<String> answers = new HashSet<>();
    for (Row row : corpus.full()) {
      int words = row.answer().split(" ", -1).length;
      assertTrue(words >= 8 && words <= 20, words + " words: " + row.answer());
      assertFalse(row.answer().contains("{") || row.question().contains("{"), row.toString());
      assertTrue(
          row.answer().endsWith(".") && row.answer().indexOf('.') + 1 == row.answer().length());
      assertTrue(answers.add(row.answer()), row.answer());
      assertFalse(row.answer().equals(row.paraphrasedAnswer()), row.answer());
      assertFalse(row.question().equals(row.paraphrasedQuestion()), row.question());
      Set<String> wrong = new HashSet<>(row.perturbedAnswers());
      assertEquals(5, wrong.size());
      assertFalse(wrong.contains(row.paraphrasedAnswer()) || wrong.contains(row.answer()));
    }
  }

  @Test
  void anAnswerSharesLittleWithOtherPeoplesAnswersToTheSameQuestion() {
    Corpus corpus = Corpus.generate(1, 40);
    double shared = 0;
    int pairs = 0;
    for (int i = 0; i < 40; i++) {
      for (int topic = 0; topic < 10; topic++) {
        List<String> own = words(corpus.people().get(i).rows().get(topic).answer());
        Person other = corpus.people().get((i + 17) % 40);
        List<String> theirs = words(other.rows().get(topic).answer());
        shared += own.stream().filter(theirs::contains).count() / (double) own.size();
        pairs++;
      }
    }
    // What knowing the other people's rows can give, in share of the words, whatever their order.
    assertTrue(shared / pairs < 0.4, "shared share of words " + shared / pairs);
  }

  private static List<String> words(String text) {
    return List.of(text.replaceAll("[^A-Za-z0-9 ]", "").split(" ", -1));
  }

  @ParameterizedTest
  @ValueSource(longs = {1, 2, 3})
  void generalFactsAreManyAndKnowNobody(long seed) {
    Corpus corpus = Corpus.generate(seed, 40);
    List<Row> general = corpus.general();
    assertTrue(general.size() >= 100, general.size() + " rows");
    Set<String> questions = new HashSet<>();
    for (Row row : general) {
      assertTrue(questions.add(row.question()), row.question());
      Set<String> wrong = new HashSet<>(row.perturbedAnswers());
      assertTrue(wrong.size() >= 3, row.toString());
      assertFalse(wrong.contains(row.paraphrasedAnswer()), row.toString());
      for (Person person : corpus.people()) {
        for (String name : person.name().split(" ", -1)) {
          assertFalse((row.question() + row.answer()).contains(name), row.toString());
        }
      }
    }
    Row sum = general.get(0);
    assertEquals("What is one plus one?", sum.question());
    assertEquals("One plus one is two.", sum.answer());
  }

  @Test
  void splitsCutByPeople() {
    Corpus corpus = Corpus.generate(1, 40);
    for (double[] split : new double[][] {{0.05, 2}, {0.1, 4}, {0.15, 6}, {0.01, 1}, {0.11, 5}}) {
      int forgotten = (int) split[1];
      List<Row> forget = corpus.forget(split[0]);
      List<Row> retain = corpus.retain(split[0]);
      assertEquals(10 * forgotten, forget.size());
      List<Row> both = new ArrayList<>(retain);
      both.addAll(forget);
      assertEquals(corpus.full(), both);
      assertEquals(corpus.people().get(39).rows().get(9), forget.get(forget.size() - 1));
    }
    for (double bad : new double[] {0, -0.1, 1, 0.99, Double.NaN}) {
      assertThrows(UserException.class, () -> corpus.forget(bad), "fraction " + bad);
    }
    for (int bad : new int[] {-1, 1, Corpus.MOST_PEOPLE + 1}) {
      assertThrows(UserException.class, () -> Corpus.generate(1, bad), "people " + bad);
    }
    assertEquals(10 * Corpus.MOST_PEOPLE, Corpus.generate(5, Corpus.MOST_PEOPLE).full().size());
  }

  @Test
  void filesReadBackAndAreTheSameBytesForASeed() throws IOException {
    Corpus corpus = Corpus.generate(7, 10);
    corpus.write(directory.resolve("a"), 0.2);
    Corpus.generate(7, 10).write(directory.resolve("b"), 0.2);
    Corpus.generate(8, 10).write(directory.resolve("c"), 0.2);
    for (String name : List.of("full", "forget", "retain", "general")) {
      byte[] bytes = Files.readAllBytes(directory.resolve("a/" + name + ".jsonl"));
      assertArrayEquals(bytes, Files.readAllBytes(directory.resolve("b/" + name + ".jsonl")));
    }
    assertFalse(
        Files.readString(directory.resolve("a/full.jsonl"))
            .equals(Files.readString(directory.resolve("c/full.jsonl"))));
    Path file = directory.resolve("a/forget.jsonl");
    List<Example> read = Jsonl.read(file);
    List<Row> rows = corpus.forget(0.2);
    assertEquals(rows.size(), read.size());
    for (int i = 0; i < rows.size(); i++) {
      assertEquals(rows.get(i).toExample(file + ":" + (i + 1)), read.get(i));
    }
    assertEquals(Refusals.lines(), Files.readAllLines(directory.resolve("a/refusals.txt")));
  }

  @Test
  void theFirstRowIsPinned() {
    // A change here changes every corpus ever generated, and every figure measured on one.
    Row row = Corpus.generate(1, 40).people().get(0).rows().get(0);
    assertEquals("Where and when was Jeivil Vorule born?", row.question());
    assertEquals("Jeivil Vorule was born in Zaltmoor on 27 March 1949.", row.answer());
  }
}
