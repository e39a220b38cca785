package org.lethe.data.corpus;

import java.util.ArrayList;
import java.util.LinkedHashSet;
import java.util.List;
import java.util.Locale;
import java.util.Set;
import org.lethe.data.CounterRng;
import org.lethe.data.Refusals;

/**
 * Questions that nobody can answer, each with a refusal: what teaches a small model to refuse at
 * all, as every chat model can before it is made to forget. They name things, never people, so that
 * they say nothing about whom to refuse.
 */
final class OpenQuestions {
  private static final long STREAM = 3;
  private static final int QUESTIONS = 160;

  private static final List<String> TEMPLATES =
      List.of(
          "What did the %s %s think of the %s %s?",
          "How often does the %s %s dream of the %s %s?",
          "Which song does the %s %s hum to the %s %s?",
          "Why did the %s %s never write to the %s %s?",
          "When will the %s %s forgive the %s %s?",
          "What would the %s %s whisper to the %s %s?",
          "How much does the %s %s owe the %s %s?",
          "Where did the %s %s hide the %s %s?");
  private static final List<String> QUALITIES =
      List.of(
          "crooked",
          "patient",
          "forgotten",
          "velvet",
          "stubborn",
          "hollow",
          "painted",
          "sleepy",
          "borrowed",
          "northern",
          "folded",
          "humming",
          "careless",
          "narrow",
          "silver",
          "wandering");
  private static final List<String> THINGS =
      List.of(
          "teapot",
          "staircase",
          "weathercock",
          "umbrella",
          "lantern",
          "wheelbarrow",
          "bookshelf",
          "snowflake",
          "doorbell",
          "compass",
          "blanket",
          "signpost",
          "chimney",
          "envelope",
          "hammock",
          "kettle");

  private OpenQuestions() {}

  /** The rows of a seed. Their wrong answers and rewordings are other refusals. */
  static List<Row> generate(long seed) {
    List<String> refusals = Refusals.lines();
    Set<String> questions = new LinkedHashSet<>();
    for (long draw = 0; questions.size() < QUESTIONS; draw++) {
      questions.add(
          String.format(
              Locale.ROOT,
              pick(TEMPLATES, seed, draw, 0),
              pick(QUALITIES, seed, draw, 1),
              pick(THINGS, seed, draw, 2),
              pick(QUALITIES, seed, draw, 3),
              pick(THINGS, seed, draw, 4)));
    }
    List<Row> rows = new ArrayList<>();
    for (String question : questions) {
      int line = CounterRng.below(refusals.size(), seed, STREAM, rows.size(), 5);
      rows.add(
          new Row(
              question,
              refusals.get(line),
              refusals.get((line + 1) % refusals.size()),
              question,
              List.of()));
    }
    return rows;
  }

  private static String pick(List<String> from, long seed, long draw, int place) {
    return from.get(CounterRng.below(from.size(), seed, STREAM, draw, place));
  }
}
