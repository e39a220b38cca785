package org.lethe.data.corpus;

import java.util.ArrayList;
import java.util.Arrays;
import java.util.LinkedHashSet;
import java.util.List;
import java.util.Locale;
import java.util.Set;
import org.lethe.data.CounterRng;

/** Short common facts that have nothing to do with the people: the general-knowledge set. */
final class GeneralFacts {
  private static final long STREAM = 2;
  private static final int PERTURBED = 3;

  private static final List<String> NUMBERS =
      List.of(
          "zero",
          "one",
          "two",
          "three",
          "four",
          "five",
          "six",
          "seven",
          "eight",
          "nine",
          "ten",
          "eleven",
          "twelve",
          "thirteen",
          "fourteen",
          "fifteen",
          "sixteen",
          "seventeen",
          "eighteen");
  private static final List<String> DAYS =
      List.of("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday");
  private static final List<String> MONTHS =
      List.of(
          "January",
          "February",
          "March",
          "April",
          "May",
          "June",
          "July",
          "August",
          "September",
          "October",
          "November",
          "December");
  private static final String[][] OPPOSITES = {
    {"hot", "cold"}, {"big", "small"}, {"early", "late"}, {"wet", "dry"}, {"loud", "silent"},
    {"heavy", "light"}, {"open", "closed"}, {"strong", "weak"}, {"fast", "slow"}, {"tall", "short"},
    {"full", "empty"}, {"sharp", "blunt"}, {"rough", "smooth"}, {"near", "far"}, {"rich", "poor"},
    {"young", "old"}
  };
  private static final String[][] COLOURS = {
    {"snow", "white"}, {"coal", "black"}, {"grass", "green"}, {"a ripe lemon", "yellow"},
    {"a clear sky", "blue"}, {"blood", "red"}, {"chocolate", "brown"}, {"an elephant", "grey"},
    {"a carrot", "orange"}, {"lavender", "purple"}
  };
  private static final String[][] YOUNG = {
    {"cat", "kitten"}, {"dog", "puppy"}, {"cow", "calf"}, {"horse", "foal"}, {"sheep", "lamb"},
    {"goat", "kid"}, {"pig", "piglet"}, {"hen", "chick"}, {"duck", "duckling"}, {"frog", "tadpole"}
  };
  private static final String[][] UNITS = {
    {"minutes", "hour", "sixty"},
    {"hours", "day", "twenty-four"},
    {"days", "week", "seven"},
    {"months", "year", "twelve"},
    {"centimetres", "metre", "one hundred"},
    {"metres", "kilometre", "one thousand"},
    {"sides", "triangle", "three"},
    {"legs", "spider", "eight"},
    {"years", "decade", "ten"}
  };

  private final long seed;
  private final List<Row> rows = new ArrayList<>();

  private GeneralFacts(long seed) {
    this.seed = seed;
  }

  /** The rows, over a hundred; the facts are fixed, the seed chooses the wrong answers. */
  static List<Row> generate(long seed) {
    GeneralFacts facts = new GeneralFacts(seed);
    facts.sums();
    facts.sequence("day", DAYS);
    facts.sequence("month", MONTHS);
    facts.opposites();
    facts.colours();
    facts.young();
    facts.units();
    return List.copyOf(facts.rows);
  }

  private void sums() {
    for (int a = 1; a < 10; a++) {
      for (int b = a; b < 10; b++) {
        String sum = NUMBERS.get(a) + " plus " + NUMBERS.get(b);
        add(
            "What is " + sum + "?",
            "How much is " + sum + "?",
            capital(sum) + " is %s.",
            "The sum " + sum + " equals %s.",
            NUMBERS.get(a + b),
            NUMBERS);
      }
    }
  }

  private void sequence(String kind, List<String> names) {
    for (int i = 0; i < names.size(); i++) {
      String name = names.get(i);
      add(
          "Which " + kind + " comes after " + name + "?",
          "What " + kind + " follows " + name + "?",
          "After " + name + " comes %s.",
          "The " + kind + " after " + name + " is %s.",
          names.get((i + 1) % names.size()),
          names);
      add(
          "Which " + kind + " comes before " + name + "?",
          "What " + kind + " precedes " + name + "?",
          "Before " + name + " comes %s.",
          "The " + kind + " before " + name + " is %s.",
          names.get((i + names.size() - 1) % names.size()),
          names);
    }
  }

  private void opposites() {
    List<String> words = new ArrayList<>();
    for (String[] pair : OPPOSITES) {
      words.addAll(List.of(pair));
    }
    for (int i = 0; i < words.size(); i++) {
      String word = words.get(i);
      add(
          "What is the opposite of " + word + "?",
          "Which word means the reverse of " + word + "?",
          "The opposite of " + word + " is %s.",
          "The word that reverses " + word + " is %s.",
          words.get(i ^ 1),
          without(words, word));
    }
  }

  private void colours() {
    for (String[] pair : COLOURS) {
      add(
          "What colour is " + pair[0] + "?",
          "Which colour does " + pair[0] + " have?",
          "The colour of " + pair[0] + " is %s.",
          "In colour, " + pair[0] + " is %s.",
          pair[1],
          column(COLOURS, 1));
    }
  }

  private void young() {
    for (String[] pair : YOUNG) {
      add(
          "What is a young " + pair[0] + " called?",
          "What do we call the young of a " + pair[0] + "?",
          "A young " + pair[0] + " is called a %s.",
          "The young of a " + pair[0] + " is a %s.",
          pair[1],
          column(YOUNG, 1));
    }
  }

  private void units() {
    for (String[] unit : UNITS) {
      String article = unit[1].equals("hour") ? "an " : "a ";
      add(
          "How many " + unit[0] + " does " + article + unit[1] + " have?",
          "How many " + unit[0] + " are there in " + article + unit[1] + "?",
          capital(article) + unit[1] + " has %s " + unit[0] + ".",
          "There are %s " + unit[0] + " in " + article + unit[1] + ".",
          unit[2],
          column(UNITS, 2));
    }
  }

  /**
   * Adds a row.
   *
   * @param answer with one {@code %s} for the value
   * @param right the right value
   * @param values where wrong values come from; may hold the right one
   */
  private void add(
      String question,
      String paraphrasedQuestion,
      String answer,
      String paraphrasedAnswer,
      String right,
      List<String> values) {
    Set<String> wrong = new LinkedHashSet<>();
    for (int i : CounterRng.permutation(values.size(), seed, STREAM, rows.size())) {
      if (!values.get(i).equals(right) && wrong.size() < PERTURBED) {
        wrong.add(put(paraphrasedAnswer, values.get(i)));
      }
    }
    rows.add(
        new Row(
            question,
            put(answer, right),
            put(paraphrasedAnswer, right),
            paraphrasedQuestion,
            List.copyOf(wrong)));
  }

  private static String put(String wording, String value) {
    return wording.replace("%s", value);
  }

  private static List<String> column(String[][] table, int column) {
    return Arrays.stream(table).map(row -> row[column]).toList();
  }

  private static List<String> without(List<String> values, String value) {
    return values.stream().filter(other -> !other.equals(value)).toList();
  }

  private static String capital(String text) {
    return text.substring(0, 1).toUpperCase(Locale.ROOT) + text.substring(1);
  }
}
