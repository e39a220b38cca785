package org.lethe.data;

import java.util.ArrayList;
import java.util.Comparator;
import java.util.List;

/**
 * Characters of a text, in code points (as Python counts them).
 *
 * @param from index of the first one, not negative
 * @param to index behind the last one, above {@code from}
 */
public record Passage(int from, int to) {
  public Passage {
    if (from < 0 || to <= from) {
      throw new IllegalArgumentException("passage [" + from + ", " + to + ") is empty or negative");
    }
  }

  /** Every place where a piece stands in a text, none overlapping the one before. */
  static List<Passage> occurrences(String text, String piece) {
    List<Passage> found = new ArrayList<>();
    for (int at = text.indexOf(piece); at >= 0; at = text.indexOf(piece, at + piece.length())) {
      int from = text.codePointCount(0, at);
      found.add(new Passage(from, from + piece.codePointCount(0, piece.length())));
    }
    return found;
  }

  /** The same characters as passages in order, apart from each other. */
  static List<Passage> united(List<Passage> passages) {
    List<Passage> ordered = new ArrayList<>(passages);
    ordered.sort(Comparator.comparingInt(Passage::from));
    List<Passage> united = new ArrayList<>();
    for (Passage passage : ordered) {
      Passage last = united.isEmpty() ? null : united.get(united.size() - 1);
      if (last != null && passage.from() <= last.to()) {
        united.set(united.size() - 1, new Passage(last.from(), Math.max(last.to(), passage.to())));
      } else {
        united.add(passage);
      }
    }
    return united;
  }

  /** Whether the characters from {@code begin} to before {@code end} share one with it. */
  boolean touches(int begin, int end) {
    return begin < to && end > from;
  }
}
