package org.lethe.model;

/**
 * What the optimizer keeps of each parameter beside its working copy, and for how long.
 *
 * @param master whether a bf16 working copy has an fp32 master; fp32 weights are their own
 * @param moments how AdamW's two moments are kept
 * @param fused whether a layer's parameters are updated as soon as its backward pass is through, so
 *     that the gradients of one layer exist at a time; when all weights train
 */
public record OptimizerConfig(Master master, Moments moments, boolean fused) {
  /** The parameters that updates are added to. */
  public enum Master {
    /** In fp32, rounded to the working copy after each update. */
    FP32,
    /** There is none: the bf16 working copy itself, rounded stochastically. */
    NONE
  }

  /** AdamW's moments. */
  public enum Moments {
    /** Four bytes each. */
    FP32,
    /** Codes of a byte, and a scale for 256 of them; norms and biases stay in fp32. */
    EIGHT_BIT
  }

  /** An fp32 master, fp32 moments, and one update after the backward pass. */
  public static final OptimizerConfig DEFAULT =
      new OptimizerConfig(Master.FP32, Moments.FP32, false);

  /** The same with moments of a byte each. */
  public OptimizerConfig eightBit() {
    return new OptimizerConfig(master, Moments.EIGHT_BIT, fused);
  }

  /** The same, each layer updated in the backward pass. */
  public OptimizerConfig fusedUpdate() {
    return new OptimizerConfig(master, moments, true);
  }

  /** The same without an fp32 master. */
  public OptimizerConfig withoutMaster() {
    return new OptimizerConfig(Master.NONE, moments, fused);
  }
}
