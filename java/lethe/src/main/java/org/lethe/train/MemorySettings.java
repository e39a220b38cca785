package org.lethe.train;

import org.lethe.UserException;
import org.lethe.model.ActivationPolicy;

/**
 * How much memory a training may take, and how it keeps to that.
 *
 * @param budget bytes of the device in all; 0: no bound
 * @param kept bytes of the budget that steps leave to what happens between them
 * @param scratch bytes of it that the device's ops take whatever a step is
 */
public record MemorySettings(long budget, Activations activations, long kept, long scratch) {
  /** No bound: all activations are kept. */
  public static final MemorySettings UNBOUNDED = new MemorySettings(0, Activations.AUTO);

  /** The same for steps alone. */
  public MemorySettings(long budget, Activations activations) {
    this(budget, activations, 0, 0);
  }

  /** The same with so many bytes kept for what happens between the steps. */
  public MemorySettings keeping(long bytes, long scratchBytes) {
    return new MemorySettings(budget, activations, bytes, scratchBytes);
  }

  /** What becomes of activations between the forward and the backward pass. */
  public enum Activations {
    /** Kept, but for as many layers as the budget asks to be computed again. */
    AUTO,
    /** Kept; the budget can only make pieces smaller. */
    KEEP,
    /** Computed again in the backward pass, in all layers. */
    RECOMPUTE,
    /** Kept on the host; without a budget in all layers, else in as many as it asks. */
    OFFLOAD;

    /**
     * Refuses to keep activations on the host where the device is the host.
     *
     * @throws UserException saying so
     */
    public void requirePossible(boolean host) {
      if (this == OFFLOAD && host) {
        throw new UserException(
            "memory.activations=offload keeps activations on the host, and the device is the host:"
                + " nothing would be saved; set memory.activations=recompute");
      }
    }

    /** What that is without a budget. */
    public ActivationPolicy unbounded(int layers) {
      return switch (this) {
        case AUTO, KEEP -> ActivationPolicy.KEEP;
        case RECOMPUTE -> ActivationPolicy.recompute(layers);
        case OFFLOAD -> ActivationPolicy.offload(layers);
      };
    }

    /** The least memory that it allows. */
    public ActivationPolicy least(int layers) {
      return this == AUTO ? ActivationPolicy.recompute(layers) : unbounded(layers);
    }
  }
}
