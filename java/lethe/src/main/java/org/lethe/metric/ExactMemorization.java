package org.lethe.metric;

/**
 * The share of an answer's tokens that are the most likely ones under teacher forcing (Tirumala et
 * al., "Memorization Without Overfitting", arXiv 2205.10770; MA in Jang et al., arXiv 2210.01504).
 */
public final class ExactMemorization {
  private ExactMemorization() {}

  /**
   * The share of hits; NaN for an answer without tokens.
   *
   * @param hits whether each token is the most likely one
   */
  public static double of(boolean[] hits) {
    int sum = 0;
    for (boolean hit : hits) {
      sum += hit ? 1 : 0;
    }
    return (double) sum / hits.length;
  }
}
