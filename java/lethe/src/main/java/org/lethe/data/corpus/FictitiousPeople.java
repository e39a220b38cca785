package org.lethe.data.corpus;

import java.util.ArrayList;
import java.util.List;
import java.util.Locale;
import org.lethe.InternalFaultException;

/** Generates the people: who they are, and a row per topic for each. */
final class FictitiousPeople {
  static final int PERTURBED = 5;

  private FictitiousPeople() {}

  /**
   * People with different first names and different last names.
   *
   * @param seed of all draws
   * @param count how many
   */
  static List<Person> generate(long seed, int count) {
    Names names = new Names(seed);
    List<Topic> topics = Topic.all();
    List<String[]> called = new ArrayList<>();
    for (int i = 0; i < count; i++) {
      called.add(new String[] {names.first(), names.last()});
    }
    List<Person> people = new ArrayList<>();
    for (String[] name : called) {
      List<Row> rows = new ArrayList<>();
      for (Topic topic : topics) {
        rows.add(row(name[0], name[1], topic, names));
      }
      people.add(new Person(name[0] + " " + name[1], rows));
    }
    return people;
  }

  private static Row row(String first, String last, Topic topic, Names names) {
    int[] question = two(topic.questions().size(), names);
    int[] answer = two(topic.answers().size(), names);
    List<String> right = topic.draw().apply(names);
    String rewording = topic.answers().get(answer[1]);
    List<String> wrong = new ArrayList<>();
    while (wrong.size() < PERTURBED) {
      String candidate = fill(rewording, first, last, allDifferent(right, topic, names));
      if (!wrong.contains(candidate)) {
        wrong.add(candidate);
      }
    }
    return new Row(
        fill(topic.questions().get(question[0]), first, last, List.of()),
        fill(topic.answers().get(answer[0]), first, last, right),
        fill(rewording, first, last, right),
        fill(topic.questions().get(question[1]), first, last, List.of()),
        wrong);
  }

  /** Values of which none is the right one in its place. */
  private static List<String> allDifferent(List<String> right, Topic topic, Names names) {
    for (int attempt = 0; attempt < 1000; attempt++) {
      List<String> values = topic.draw().apply(names);
      boolean differs = true;
      for (int i = 0; i < values.size(); i++) {
        differs &= !values.get(i).equals(right.get(i));
      }
      if (differs) {
        return values;
      }
    }
    throw new InternalFaultException("no wrong values found for a topic");
  }

  /** Two different indices below n. */
  private static int[] two(int n, Names names) {
    int one = names.below(n);
    return new int[] {one, (one + 1 + names.below(n - 1)) % n};
  }

  private static String fill(String wording, String first, String last, List<String> values) {
    String text = wording.replace("{name}", first + " " + last).replace("{first}", first);
    for (int i = 0; i < values.size(); i++) {
      text = text.replace("{" + i + "}", values.get(i));
    }
    return text.substring(0, 1).toUpperCase(Locale.ROOT) + text.substring(1);
  }
}
