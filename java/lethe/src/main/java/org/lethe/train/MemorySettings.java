package org.lethe.train;

/**
 * How much memory a training may take, and how it keeps to that.
 *
 * @param budget bytes of the device in all; 0: no bound
 */
public record MemorySettings(long budget, Activations activations) {
  /** No bound: all activations are kept. */
  public static final MemorySettings UNBOUNDED = new MemorySettings(0, Activations.AUTO);

  /** What becomes of activations between the forward and the backward pass. */
  public enum Activations {
    /** Kept, but for as many layers as the budget asks to be computed again. */
    AUTO,
    /** Kept; the budget can only make pieces smaller. */
    KEEP,
    /** Computed again in the backward pass, in all layers. */
    RECOMPUTE
  }
}
