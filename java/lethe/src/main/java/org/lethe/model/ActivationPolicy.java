package org.lethe.model;

import org.lethe.UserException;

/**
 * What becomes of each layer's activations between the forward and the backward pass. The lowest
 * layers are computed again, those above them are kept on the host, the rest on the device; which
 * layers they are makes no difference to the memory. Gradients are the same numbers.
 *
 * <p>A layer that is computed again keeps its input and the u of its last projection; all such
 * layers share the memory of the rest, and their backward pass begins with their forward pass up to
 * the activation (Chen et al. 2016, arXiv:1604.06174), but for the last of them, whose activations
 * are still there. A layer on the host keeps its input; what else it has goes out and comes in
 * beside the products of its neighbours, through two places that all such layers share.
 *
 * @param recomputed layers from the first on whose activations are not kept
 * @param offloaded layers behind those whose activations are kept on the host
 */
public record ActivationPolicy(int recomputed, int offloaded) {
  /** Everything is kept. */
  public static final ActivationPolicy KEEP = new ActivationPolicy(0, 0);

  public ActivationPolicy {
    if (recomputed < 0 || offloaded < 0) {
      throw new UserException(
          "recomputed and offloaded layers are "
              + recomputed
              + " and "
              + offloaded
              + ", must be at least 0");
    }
  }

  /** So many layers are computed again. */
  public static ActivationPolicy recompute(int layers) {
    return new ActivationPolicy(layers, 0);
  }

  /** So many layers are kept on the host. */
  public static ActivationPolicy offload(int layers) {
    return new ActivationPolicy(0, layers);
  }

  /** Whether a layer's activations share memory with other layers'. */
  boolean recomputes(int layer) {
    return layer < recomputed;
  }

  /** Whether the shared memory no longer holds a layer's activations when its backward begins. */
  boolean lost(int layer) {
    return layer < recomputed - 1;
  }

  /** Whether a layer's activations pass through one of the two places. */
  boolean offloads(int layer) {
    return layer >= recomputed && layer < recomputed + offloaded;
  }
}
