package org.lethe.model;

/**
 * How a model keeps the weights of its layers' linears on a device. The embedding, the head, norms
 * and biases are in the storage of activations either way.
 */
public enum BaseStorage {
  /** In the storage of activations. */
  PLAIN(false),
  /** 4-bit NormalFloat, one fp32 scale for 64 weights: 4.5 bits a weight. Frozen. */
  NF4(false),
  /** NF4 with scales that are quantised in their turn: 4.127 bits a weight. Frozen. */
  NF4_DOUBLE(true);

  private final boolean nested;

  BaseStorage(boolean nested) {
    this.nested = nested;
  }

  /** Whether they stay in 4-bit codes. */
  public boolean quantized() {
    return this != PLAIN;
  }

  /** Whether the scales of the codes are quantised in their turn. */
  public boolean nested() {
    return nested;
  }
}
