package org.lethe.method;

/**
 * The logistic function and its log, without overflow or cancellation at either end. NaN gives NaN.
 */
final class Logistic {
  private Logistic() {}

  /** log(1 + e^x) = −log σ(−x); log 2 at 0 to the bit, 0 at −∞, ∞ at ∞. */
  static double softplus(double x) {
    return x > 0 ? x + StrictMath.log1p(StrictMath.exp(-x)) : StrictMath.log1p(StrictMath.exp(x));
  }

  /** σ(x) = 1/(1 + e^−x); ½ at 0 exactly. */
  static double sigmoid(double x) {
    double e = StrictMath.exp(-StrictMath.abs(x));
    return (x > 0 ? 1 : e) / (1 + e);
  }
}
