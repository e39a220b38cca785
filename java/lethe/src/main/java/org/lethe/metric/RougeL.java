package org.lethe.metric;

import java.util.ArrayList;
import java.util.List;
import java.util.Locale;

/**
 * ROUGE-L: the longest common subsequence of two texts' words (Lin, "ROUGE: A Package for Automatic
 * Evaluation of Summaries", 2004), with the words of Google's rouge_score and its stemming on:
 * lower case, everything but a–z and 0–9 divides words, words longer than three letters are
 * stemmed.
 */
public final class RougeL {
  /** Shorter words are left as they are. */
  private static final int SHORTEST_STEMMED = 4;

  private RougeL() {}

  /**
   * How much two texts share.
   *
   * @param precision common words / words of the candidate
   * @param recall common words / words of the reference
   * @param f1 their harmonic mean
   */
  public record Score(double precision, double recall, double f1) {
    /** The score of a number of common words; 0 throughout when either text has no word. */
    static Score of(int common, int wanted, int given) {
      if (common == 0) {
        return new Score(0, 0, 0);
      }
      double precision = (double) common / given;
      double recall = (double) common / wanted;
      return new Score(precision, recall, 2 * precision * recall / (precision + recall));
    }
  }

  /** The score of a candidate; 0 throughout when either text has no word. */
  public static Score score(String reference, String candidate) {
    List<String> wanted = words(reference);
    List<String> given = words(candidate);
    return Score.of(longestCommonSubsequence(wanted, given), wanted.size(), given.size());
  }

  /** The stemmed words of a text, in order. */
  static List<String> words(String text) {
    List<String> words = new ArrayList<>();
    StringBuilder word = new StringBuilder();
    // Lower-cased whole: a letter outside a–z may become one inside it (the Kelvin sign).
    String lower = text.toLowerCase(Locale.ROOT) + " ";
    for (int i = 0; i < lower.length(); i++) {
      char c = lower.charAt(i);
      if ((c >= 'a' && c <= 'z') || (c >= '0' && c <= '9')) {
        word.append(c);
      } else if (!word.isEmpty()) {
        words.add(
            word.length() < SHORTEST_STEMMED
                ? word.toString()
                : PorterStemmer.stem(word.toString()));
        word.setLength(0);
      }
    }
    return words;
  }

  private static int longestCommonSubsequence(List<String> a, List<String> b) {
    int[] row = new int[b.size() + 1];
    for (String left : a) {
      int diagonal = 0;
      for (int j = 1; j <= b.size(); j++) {
        int above = row[j];
        row[j] = left.equals(b.get(j - 1)) ? diagonal + 1 : Math.max(above, row[j - 1]);
        diagonal = above;
      }
    }
    return row[b.size()];
  }
}
