package org.lethe.method;

import org.lethe.InternalFaultException;

/**
 * What the head says about each row with logits z over V tokens, p = softmax z, y the row's label.
 * {@value #COLUMNS} numbers per row, in the order of the column constants.
 *
 * <p>Values that are not finite pass through: a row whose logits hold a NaN or +∞ has no softmax,
 * and each of its derived values is NaN; a label with logit −∞ has nll ∞. No value is clamped, so
 * that whoever guards the step sees them in the loss. Rounding of the columns may leave a
 * divergence of nearly 0 slightly negative. Immutable.
 */
public final class RowStatistics {
  /** Numbers per row. */
  public static final int COLUMNS = 13;

  /** logsumexp z. */
  public static final int LSE = 0;

  /** z[y]; 0 for a row without a label. */
  public static final int LABEL = 1;

  /** logsumexp of z over all tokens but y. */
  public static final int LSE_OTHERS = 2;

  /** The mean of z. */
  public static final int MEAN = 3;

  /** E_p[z] − max z. */
  public static final int EZ = 4;

  /** max z. */
  public static final int MAX = 5;

  /** The lowest token with the largest logit. */
  public static final int ARGMAX = 6;

  /** How many tokens have a larger logit than y. */
  public static final int RANK = 7;

  /** The divergence of a row of kind REFERENCE_KL or KL_REFERENCE, else 0. */
  public static final int KL = 8;

  /** E_p[log² p]. */
  public static final int ELOG2 = 9;

  /** The entropy of the softmax over all tokens but y; 0 for a row without a label. */
  public static final int ENTROPY_OTHERS = 10;

  /** The entropy of the reference of a row that compares with one, else 0. */
  public static final int REFERENCE_ENTROPY = 11;

  /** The lowest token with the reference's largest logit; 0 without a reference. */
  public static final int REFERENCE_ARGMAX = 12;

  private final double[] values;
  private final int vocabulary;
  private final double logVocabulary;

  /**
   * Takes what the head wrote.
   *
   * @param values [rows, {@value #COLUMNS}], copied
   * @param vocabulary V
   */
  public RowStatistics(float[] values, int vocabulary) {
    this(widened(values), vocabulary);
  }

  /** Takes {@code values} [rows, {@value #COLUMNS}] without a copy. */
  RowStatistics(double[] values, int vocabulary) {
    if (values.length % COLUMNS != 0 || vocabulary < 1) {
      throw new InternalFaultException(
          "Row statistics of " + values.length + " numbers for a vocabulary of " + vocabulary);
    }
    this.values = values;
    this.vocabulary = vocabulary;
    this.logVocabulary = StrictMath.log(vocabulary);
  }

  /** Number of rows. */
  public int rows() {
    return values.length / COLUMNS;
  }

  /** Number of tokens there are. */
  public int vocabulary() {
    return vocabulary;
  }

  /**
   * −log p[y] = softplus(LSE_OTHERS − LABEL): exact also where p[y] is nearly 1 and LSE − LABEL
   * rounds to 0.
   */
  public double nll(int row) {
    // With a logit of +∞ at the label the difference would be −∞, and the nll a harmless 0.
    double others = at(row, LSE) < Double.POSITIVE_INFINITY ? at(row, LSE_OTHERS) : Double.NaN;
    return Logistic.softplus(others - at(row, LABEL));
  }

  /** The nll summed over a sequence's rows, rounded once: the same bits in any order. */
  public double nll(Sequence sequence) {
    ExactSum sum = new ExactSum();
    for (int row = sequence.firstRow(); row < sequence.firstRow() + sequence.rows(); row++) {
      sum.add(nll(row));
    }
    return sum.value();
  }

  /** −log(1 − p[y]) = softplus(LABEL − LSE_OTHERS): exact also where p[y] is nearly 0 or 1. */
  public double othersNll(int row) {
    double others = at(row, LSE) < Double.POSITIVE_INFINITY ? at(row, LSE_OTHERS) : Double.NaN;
    return Logistic.softplus(at(row, LABEL) - others);
  }

  /** p[y] / (1 − p[y]). */
  public double odds(int row) {
    return StrictMath.exp(at(row, LABEL) - at(row, LSE_OTHERS));
  }

  /** KL(U‖p) = LSE − MEAN − log V. */
  public double uniformKl(int row) {
    return (at(row, LSE) - at(row, MEAN)) - logVocabulary;
  }

  /** KL(p‖U) = log V − H(p). */
  public double klUniform(int row) {
    return logVocabulary - entropy(row);
  }

  /** H(p) in nats. */
  public double entropy(int row) {
    return (at(row, LSE) - at(row, MAX)) - at(row, EZ);
  }

  /** H of the softmax over all tokens but the label, in nats. */
  public double entropyOfOthers(int row) {
    return at(row, ENTROPY_OTHERS);
  }

  /** H of the reference's softmax, in nats. */
  public double referenceEntropy(int row) {
    return at(row, REFERENCE_ENTROPY);
  }

  /** The divergence from the reference, in the direction of the row's kind. */
  public double kl(int row) {
    return at(row, KL);
  }

  /** max z − mean z. */
  public double logitMargin(int row) {
    return at(row, MAX) - at(row, MEAN);
  }

  /** The reference's most likely token, of a row that compares with one. */
  public int referenceArgmax(int row) {
    return (int) at(row, REFERENCE_ARGMAX);
  }

  /** The most likely token of a row. */
  public int argmax(int row) {
    return (int) at(row, ARGMAX);
  }

  /** How many tokens are more likely than the label of a row. */
  public int rank(int row) {
    return (int) at(row, RANK);
  }

  /** E_p[log² p]. */
  public double meanSquaredLog(int row) {
    return at(row, ELOG2);
  }

  private double at(int row, int column) {
    return values[row * COLUMNS + column];
  }

  private static double[] widened(float[] values) {
    double[] widened = new double[values.length];
    for (int i = 0; i < values.length; i++) {
      widened[i] = values[i];
    }
    return widened;
  }
}
