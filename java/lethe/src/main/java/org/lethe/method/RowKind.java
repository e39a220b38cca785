package org.lethe.method;

/**
 * The direction of the unscaled gradient that the head writes for a row with logits z, p = softmax
 * z, U uniform over the V tokens. A loss then needs one coefficient per row: its derivative with
 * respect to the scalar whose gradient that direction is.
 */
public enum RowKind {
  /** No gradient, statistics only. */
  STATISTICS(0),
  /** p − e_y, the gradient of {@link RowStatistics#nll}. */
  NLL(1),
  /** p − 1/V, the gradient of {@link RowStatistics#uniformKl}, KL(U‖p). */
  UNIFORM_KL(2),
  /** p·(z − E_p z), the gradient of {@link RowStatistics#klUniform}, KL(p‖U) = log V − H(p). */
  KL_UNIFORM(3),
  /** p − q, the gradient of {@link RowStatistics#kl} when that is KL(q‖p), q the reference. */
  REFERENCE_KL(4),
  /** p·(log(p/q) − KL(p‖q)), the gradient of {@link RowStatistics#kl} when that is KL(p‖q). */
  KL_REFERENCE(5),
  /**
   * p·r̄ − r/V with r = p/(p + ε) and r̄ its mean, the gradient of {@link RowStatistics#kl} when
   * that is −mean log(p + ε) − log V, ε of the row's {@link RowParameters}.
   */
  UNIFORM_KL_EPSILON(7);

  private final int code;

  RowKind(int code) {
    this.code = code;
  }

  /** The number that stands for this kind across the C boundary. */
  public int code() {
    return code;
  }
}
