package org.lethe.metric;

/** Whose definitions the metrics follow where sources differ. */
public enum Definitions {
  /**
   * The formulas without the quirks of a code: nothing added to divisors, extraction strength 0
   * where the last token is missed, sums rounded once.
   */
  LETHE(Averaging.EXACT, 0),

  /**
   * The code of open-unlearning (commit d3d7cf9), so that its printed tables come out digit by
   * digit: 1e-10 added to divisors, extraction strength at least 1/L, of every answer's labels the
   * last dropped even where it is no end token, NumPy's sums.
   */
  OPEN_UNLEARNING(Averaging.NUMPY, TruthRatio.OPEN_UNLEARNING_FLOOR),

  /**
   * The code of "A Closer Look at Machine Unlearning for Large Language Models" (commit b622294):
   * the forget set's truth ratio is 1 − mean min(R, 1/R). What it does not define is as in {@link
   * #LETHE}.
   */
  CLOSER_LOOK(Averaging.NUMPY, 0);

  private final Averaging averaging;
  private final double floor;

  Definitions(Averaging averaging, double floor) {
    this.averaging = averaging;
    this.floor = floor;
  }

  /** How means are rounded. */
  public Averaging averaging() {
    return averaging;
  }

  /** What is added to divisors. */
  public double floor() {
    return floor;
  }

  /** The tokens of an answer that token metrics and attacks look at. */
  public AnswerTokens tokens(AnswerTokens labels) {
    return this == OPEN_UNLEARNING ? labels.withoutLast() : labels.withoutEnd();
  }

  /** {@link ExtractionStrength} of one answer. */
  public double extractionStrength(AnswerTokens labels) {
    boolean[] hits = tokens(labels).hits();
    return this == OPEN_UNLEARNING
        ? ExtractionStrength.openUnlearning(hits)
        : ExtractionStrength.of(hits);
  }

  /** {@link TruthRatio} R of one example. */
  public double truthRatio(Observation o) {
    return TruthRatio.of(this, o.paraphrasedNll(), o.perturbedNll());
  }

  /** The forget set's aggregate of truth ratios R. */
  public double forgetTruthRatio(double[] ratios) {
    return this == CLOSER_LOOK
        ? TruthRatio.forgetCloserLook(averaging, ratios)
        : TruthRatio.forget(averaging, ratios, floor);
  }
}
