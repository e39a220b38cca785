package org.lethe.method;

/**
 * Which divergence from the uniform distribution U over V tokens {@link MaximumEntropy} minimises.
 * Both are 0 at p = U only; their gradients differ.
 */
public enum EntropyDirection {
  /**
   * KL(U‖p) = logsumexp z − mean z − log V. Unbounded, and its gradient p − U does not fade where p
   * is peaked.
   */
  UNIFORM_TO_MODEL,
  /**
   * KL(p‖U) = log V − H(p). Bounded by log V, and its gradient p·(log p + H) fades where p is
   * peaked.
   */
  MODEL_TO_UNIFORM
}
