package org.lethe.checkpoint;

import java.util.Optional;
import org.lethe.checkpoint.quant.FourBit;

/** The layouts of bitsandbytes that a model's linears can be written in. */
public enum Quantization {
  /** 4-bit NormalFloat, one fp32 scale for 64 weights: 4.5 bits a weight. */
  NF4(FourBit.NF4, false),
  /** NF4 with 8-bit scales: 4.127 bits a weight. */
  NF4_DOUBLE(FourBit.NF4, true),
  /** 4-bit floating point, one fp32 scale for 64 weights. */
  FP4(FourBit.FP4, false),
  /** FP4 with 8-bit scales. */
  FP4_DOUBLE(FourBit.FP4, true),
  /** LLM.int8(): whole numbers with one fp32 scale a row. */
  INT8(null, false);

  private final FourBit fourBit;
  private final boolean nested;

  Quantization(FourBit fourBit, boolean nested) {
    this.fourBit = fourBit;
    this.nested = nested;
  }

  /** The code; empty for 8 bits. */
  Optional<FourBit> fourBit() {
    return Optional.ofNullable(fourBit);
  }

  /** Whether scales are quantised in their turn. */
  boolean nested() {
    return nested;
  }
}
