package org.lethe.metric;

import java.util.HashMap;
import java.util.List;
import java.util.Map;

/**
 * ROUGE-1: the words that two texts share, in any order, each as often as both have it (Lin,
 * "ROUGE: A Package for Automatic Evaluation of Summaries", 2004), with the words of {@link
 * RougeL}.
 */
public final class Rouge1 {
  private Rouge1() {}

  /** The score of a candidate; 0 throughout when either text has no word. */
  public static RougeL.Score score(String reference, String candidate) {
    List<String> wanted = RougeL.words(reference);
    List<String> given = RougeL.words(candidate);
    Map<String, Integer> left = new HashMap<>();
    wanted.forEach(word -> left.merge(word, 1, Integer::sum));
    int common = 0;
    for (String word : given) {
      if (left.merge(word, -1, Integer::sum) >= 0) {
        common++;
      }
    }
    return RougeL.Score.of(common, wanted.size(), given.size());
  }
}
