package org.lethe.metric;

import java.util.Map;
import java.util.TreeMap;
import org.lethe.method.ExactSum;

/**
 * How little a text repeats itself: −Σ f·log₂ f / log₂ n over the relative frequencies f of its n
 * tokens ("A Closer Look at Machine Unlearning for Large Language Models", arXiv 2410.08109).
 */
public final class TokenEntropy {
  private TokenEntropy() {}

  /**
   * The token entropy of a text.
   *
   * @param ids token ids of the text
   * @return between 0, one token throughout, and 1, no token twice; 0 for fewer than two tokens
   */
  public static double of(int[] ids) {
    if (ids.length < 2) {
      return 0;
    }
    Map<Integer, Integer> counts = new TreeMap<>();
    for (int id : ids) {
      counts.merge(id, 1, Integer::sum);
    }
    // Σ f·log(1/f) / log n = 1 − Σ c·log c / (n·log n): exactly 1 where no token comes twice.
    ExactSum repeated = new ExactSum();
    for (int count : counts.values()) {
      repeated.add(count * StrictMath.log(count));
    }
    return 1 - repeated.value() / (ids.length * StrictMath.log(ids.length));
  }
}
