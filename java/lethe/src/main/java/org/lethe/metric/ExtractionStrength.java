package org.lethe.metric;

/**
 * The share of an answer that its beginning gives away: 1 − k/L for an answer of L tokens, k the
 * fewest tokens from which on every next one is the most likely one (Carlini et al., "Extracting
 * Training Data from Large Language Models", arXiv 2012.07805; as coded in open-unlearning, {@code
 * metrics/memorization.py}, with teacher forcing).
 */
public final class ExtractionStrength {
  private ExtractionStrength() {}

  /**
   * The strength of one answer: 0 where its last token is missed, or it has none; 1 where all are
   * hit.
   *
   * @param hits whether each token is the most likely one
   */
  public static double of(boolean[] hits) {
    int k = hits.length;
    while (k > 0 && hits[k - 1]) {
      k--;
    }
    return hits.length == 0 ? 0 : 1 - (double) k / hits.length;
  }

  /**
   * As open-unlearning has it: an answer whose last token is missed counts as one whose last token
   * is hit, so that the least is 1/L; 0 for an answer without tokens.
   */
  public static double openUnlearning(boolean[] hits) {
    int k = hits.length;
    while (k > 0 && hits[k - 1]) {
      k--;
    }
    k = Math.min(k, hits.length - 1);
    return hits.length == 0 ? 0 : 1 - (double) k / hits.length;
  }
}
