package org.lethe.metric;

/**
 * 1 − the mean of the forget set's scores ("A Closer Look at Machine Unlearning for Large Language
 * Models", arXiv 2410.08109: probability, ROUGE-L recall, its truth ratio {@link
 * TruthRatio#forgetCloserLook}, cosine similarity and entailment). Higher is better.
 */
public final class ForgetEfficacy {
  private ForgetEfficacy() {}

  /**
   * The efficacy.
   *
   * @param scores each lower the better, at least one
   */
  public static double of(Averaging averaging, double... scores) {
    return 1 - averaging.mean(scores);
  }
}
