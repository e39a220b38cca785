package org.lethe.kernels;

import org.lethe.internal.abi.Abi;

/** How numbers are stored in a buffer. */
public enum Dtype {
  /** IEEE 754 single precision. */
  F32(4, Abi.LETHE_F32),
  /** The upper half of fp32: 8 bits of exponent, 7 of fraction. */
  BF16(2, Abi.LETHE_BF16),
  /** Signed, for indices and ids. */
  I32(4, Abi.LETHE_I32);

  private final int bytes;
  private final int code;

  Dtype(int bytes, int code) {
    this.bytes = bytes;
    this.code = code;
  }

  /** Bytes of one number. */
  public int bytes() {
    return bytes;
  }

  /** The {@code lethe_dtype} of {@code lethe.h}. */
  int code() {
    return code;
  }
}
