package org.lethe.model;

import org.lethe.UserException;

/**
 * What becomes of each layer's activations between the forward and the backward pass. The layers
 * below are computed again, those above are kept; which layers they are makes no difference to the
 * memory.
 *
 * <p>A layer that is computed again keeps its input and the u of its last projection; all such
 * layers share the memory of the rest, and their backward pass begins with their forward pass up to
 * the activation (Chen et al. 2016, arXiv:1604.06174), but for the last of them, whose activations
 * are still there. Gradients are the same numbers.
 *
 * @param recomputed layers from the first on whose activations are not kept
 */
public record ActivationPolicy(int recomputed) {
  /** Everything is kept. */
  public static final ActivationPolicy KEEP = new ActivationPolicy(0);

  public ActivationPolicy {
    if (recomputed < 0) {
      throw new UserException("recomputed layers are " + recomputed + ", must be at least 0");
    }
  }

  /** Whether a layer's activations share memory with other layers'. */
  boolean recomputes(int layer) {
    return layer < recomputed;
  }

  /** Whether the shared memory no longer holds a layer's activations when its backward begins. */
  boolean lost(int layer) {
    return layer < recomputed - 1;
  }
}
