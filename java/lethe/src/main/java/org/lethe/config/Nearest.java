package org.lethe.config;

import java.util.Collection;
import java.util.Locale;
import java.util.Optional;

/** Finds the known name that a mistyped one was probably meant to be. */
public final class Nearest {
  private Nearest() {}

  /**
   * The name closest to {@code given}, ignoring case, if at most a third of its letters (and at
   * least two) differ.
   *
   * @param known candidates; of several equally close ones the first wins
   */
  public static Optional<String> of(String given, Collection<String> known) {
    String wanted = given.toLowerCase(Locale.ROOT);
    String best = null;
    int bestDistance = Math.max(2, wanted.length() / 3) + 1;
    for (String name : known) {
      int distance = distance(wanted, name.toLowerCase(Locale.ROOT));
      // A name of which nothing is left is no suggestion.
      if (distance < bestDistance && distance < name.length()) {
        best = name;
        bestDistance = distance;
      }
    }
    return Optional.ofNullable(best);
  }

  /** "; did you mean X?" or, when nothing is close, the known names. */
  public static String hint(String given, Collection<String> known) {
    return of(given, known)
        .map(name -> "; did you mean " + name + "?")
        .orElse("; known: " + String.join(", ", known));
  }

  /**
   * Edits between two words: insertions, deletions, substitutions and swaps of neighbours, each 1
   * (optimal string alignment).
   */
  static int distance(String a, String b) {
    int[] beforePrevious = new int[b.length() + 1];
    int[] previous = new int[b.length() + 1];
    for (int j = 0; j <= b.length(); j++) {
      previous[j] = j;
    }
    for (int i = 1; i <= a.length(); i++) {
      int[] current = new int[b.length() + 1];
      current[0] = i;
      for (int j = 1; j <= b.length(); j++) {
        int substitution = a.charAt(i - 1) == b.charAt(j - 1) ? 0 : 1;
        int least = Math.min(previous[j] + 1, current[j - 1] + 1);
        least = Math.min(least, previous[j - 1] + substitution);
        boolean swapped =
            i > 1
                && j > 1
                && a.charAt(i - 1) == b.charAt(j - 2)
                && a.charAt(i - 2) == b.charAt(j - 1);
        current[j] = swapped ? Math.min(least, beforePrevious[j - 2] + 1) : least;
      }
      beforePrevious = previous;
      previous = current;
    }
    return previous[b.length()];
  }
}
