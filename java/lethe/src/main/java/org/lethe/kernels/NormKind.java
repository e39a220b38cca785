package org.lethe.kernels;

import org.lethe.internal.abi.Abi;

/** How a norm centres and scales: RMSNorm (no mean, no bias) or LayerNorm. */
public enum NormKind {
  /** x / sqrt(mean(x²) + eps) (Zhang and Sennrich 2019). */
  RMS(Abi.LETHE_NORM_RMS),
  /** (x − mean) / sqrt(variance + eps) (Ba, Kiros and Hinton 2016). */
  LAYER(Abi.LETHE_NORM_LAYER);

  private final int code;

  NormKind(int code) {
    this.code = code;
  }

  /** The number that stands for this kind across the C boundary. */
  int code() {
    return code;
  }
}
