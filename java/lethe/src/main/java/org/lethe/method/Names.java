package org.lethe.method;

import java.util.List;
import java.util.Locale;

/** What a name that nothing has was probably meant to be. */
final class Names {
  private Names() {}

  static String nearest(String name, List<String> valid) {
    String best = valid.get(0);
    for (String candidate : valid) {
      if (distance(name, candidate) < distance(name, best)) {
        best = candidate;
      }
    }
    return best;
  }

  /** The edit distance of two names, without regard to case. */
  private static int distance(String left, String right) {
    String a = left.toLowerCase(Locale.ROOT);
    String b = right.toLowerCase(Locale.ROOT);
    int[] row = new int[b.length() + 1];
    for (int j = 0; j <= b.length(); j++) {
      row[j] = j;
    }
    for (int i = 1; i <= a.length(); i++) {
      int diagonal = row[0];
      row[0] = i;
      for (int j = 1; j <= b.length(); j++) {
        int replaced = diagonal + (a.charAt(i - 1) == b.charAt(j - 1) ? 0 : 1);
        diagonal = row[j];
        row[j] = Math.min(replaced, Math.min(row[j], row[j - 1]) + 1);
      }
    }
    return row[b.length()];
  }
}
