package org.lethe.model;

import org.lethe.kernels.Dtype;
import org.lethe.kernels.LinearOps;
import org.lethe.kernels.Ops;

/** How a device wants the weight of a frozen linear to lie that has adapters. */
@FunctionalInterface
public interface SpareRule {
  /** Without room for them. */
  SpareRule PACKED = (storage, out, in, rank) -> new LinearOps.Spare(in, 0);

  // Columns or rows that a CUDA device takes at once: rows stay aligned, K whole tiles.
  int CUDA_RANKS = 16;

  /**
   * The layout of a weight {@code [out,in]}.
   *
   * @param rank of all its adapters
   */
  LinearOps.Spare of(Dtype storage, long out, long in, long rank);

  /** What an open device answers. */
  static SpareRule of(Ops ops) {
    return (storage, out, in, rank) ->
        (storage == ops.dtype() ? ops : new Ops(ops.backend(), storage))
            .linear()
            .spare(out, in, rank);
  }

  /**
   * What a CUDA device that is not here would answer.
   *
   * @param form of LETHE_LORA_FORM in its environment; null for none
   */
  static SpareRule cuda(String form) {
    if (!"augmented".equals(form)) {
      return PACKED;
    }
    return (storage, out, in, rank) -> {
      long room = (rank + CUDA_RANKS - 1) / CUDA_RANKS * CUDA_RANKS;
      return new LinearOps.Spare(in < out ? in + room : in, out < in ? room : 0);
    };
  }
}
