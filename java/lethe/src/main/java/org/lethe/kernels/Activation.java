package org.lethe.kernels;

import org.lethe.internal.abi.Abi;

/** The functions between a feed-forward block's projections. */
public enum Activation {
  /** x·sigmoid(x). */
  SILU(Abi.LETHE_ACTIVATION_SILU),
  /** x/2·(1 + tanh(√(2/π)·(x + 0.044715x³))): Hugging Face's gelu_new and gelu_pytorch_tanh. */
  GELU_TANH(Abi.LETHE_ACTIVATION_GELU_TANH),
  /** x·Φ(x), Φ the normal distribution (Hendrycks and Gimpel 2016). */
  GELU_ERF(Abi.LETHE_ACTIVATION_GELU_ERF),
  /** max(x, 0). */
  RELU(Abi.LETHE_ACTIVATION_RELU);

  private final int code;

  Activation(int code) {
    this.code = code;
  }

  /** The number that stands for this activation across the C boundary. */
  int code() {
    return code;
  }
}
