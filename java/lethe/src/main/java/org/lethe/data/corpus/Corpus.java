package org.lethe.data.corpus;

import com.fasterxml.jackson.core.JsonProcessingException;
import com.fasterxml.jackson.databind.json.JsonMapper;
import java.io.IOException;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import org.lethe.EnvironmentException;
import org.lethe.InternalFaultException;
import org.lethe.UserException;
import org.lethe.data.Refusals;

/**
 * A corpus of facts about fictitious people, with a set of general facts: what a small model can
 * memorise, and then be made to forget in part. The same seed and number of people give the same
 * bytes on every machine.
 */
public final class Corpus {
  /** Enough for every split, few enough that names and titles never run out. */
  public static final int MOST_PEOPLE = 200;

  private static final JsonMapper MAPPER = JsonMapper.builder().build();

  private final List<Person> people;
  private final List<Row> general;
  private final List<Row> open;

  private Corpus(List<Person> people, List<Row> general, List<Row> open) {
    this.people = List.copyOf(people);
    this.general = List.copyOf(general);
    this.open = List.copyOf(open);
  }

  /**
   * Generates a corpus.
   *
   * @param seed of all draws
   * @param people how many people, 2 to {@link #MOST_PEOPLE}; ten rows each
   */
  public static Corpus generate(long seed, int people) {
    if (people < 2 || people > MOST_PEOPLE) {
      throw new UserException(
          "The corpus can have 2 to " + MOST_PEOPLE + " people, not " + people + ".");
    }
    return new Corpus(
        FictitiousPeople.generate(seed, people),
        GeneralFacts.generate(seed),
        OpenQuestions.generate(seed));
  }

  /** All people, in the order of their generation. */
  public List<Person> people() {
    return people;
  }

  /** The rows of all people. */
  public List<Row> full() {
    return rows(people);
  }

  /** The rows of the last {@code ceil(fraction * people)} people, who are to be forgotten. */
  public List<Row> forget(double fraction) {
    return rows(people.subList(people.size() - forgotten(fraction), people.size()));
  }

  /** The rows of everybody else. */
  public List<Row> retain(double fraction) {
    return rows(people.subList(0, people.size() - forgotten(fraction)));
  }

  /** Facts that have nothing to do with the people. */
  public List<Row> general() {
    return general;
  }

  /** Questions that nobody can answer, each with a refusal. */
  public List<Row> openQuestions() {
    return open;
  }

  /** The texts a tokenizer for this corpus is trained on: questions, answers and refusals. */
  public List<String> texts() {
    List<String> texts = new ArrayList<>();
    for (List<Row> rows : List.of(full(), general, open)) {
      for (Row row : rows) {
        texts.add(row.question());
        texts.add(row.answer());
      }
    }
    texts.addAll(Refusals.lines());
    return texts;
  }

  /**
   * Writes {@code full.jsonl}, {@code forget.jsonl}, {@code retain.jsonl}, {@code general.jsonl},
   * {@code open.jsonl} and {@code refusals.txt} into a directory, which is created; existing files
   * are replaced.
   */
  public void write(Path directory, double fraction) {
    writeRows(directory.resolve("full.jsonl"), full());
    writeRows(directory.resolve("forget.jsonl"), forget(fraction));
    writeRows(directory.resolve("retain.jsonl"), retain(fraction));
    writeRows(directory.resolve("general.jsonl"), general);
    writeRows(directory.resolve("open.jsonl"), open);
    writeText(directory.resolve("refusals.txt"), String.join("\n", Refusals.lines()) + "\n");
  }

  /** Writes rows as JSON Lines in TOFU's fields; the file's directory is created. */
  public static void writeRows(Path file, List<Row> rows) {
    StringBuilder text = new StringBuilder();
    for (Row row : rows) {
      try {
        text.append(MAPPER.writeValueAsString(row)).append('\n');
      } catch (JsonProcessingException e) {
        throw new InternalFaultException("a generated row cannot be written as JSON", e);
      }
    }
    writeText(file, text.toString());
  }

  static void writeText(Path file, String text) {
    try {
      Files.createDirectories(file.toAbsolutePath().getParent());
      Files.write(file, text.getBytes(StandardCharsets.UTF_8));
    } catch (IOException e) {
      throw new EnvironmentException(
          file + " cannot be written: " + e.getMessage() + "; free space or choose another place.",
          e);
    }
  }

  private int forgotten(double fraction) {
    // 0.15 * 40 is a hair above 6; a person must not be forgotten for a rounding error.
    int count = (int) Math.ceil(fraction * people.size() - 1e-9);
    if (!(fraction > 0) || count >= people.size()) {
      throw new UserException(
          "The fraction of people to forget must be above 0 and leave somebody to retain, not "
              + fraction
              + " of "
              + people.size()
              + ".");
    }
    return count;
  }

  private static List<Row> rows(List<Person> people) {
    return people.stream().flatMap(person -> person.rows().stream()).toList();
  }
}
