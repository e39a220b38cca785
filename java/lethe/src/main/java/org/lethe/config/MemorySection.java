package org.lethe.config;

import java.util.Optional;

/** How much memory training may take, and what is where in it. */
public record MemorySection(
    @Doc(
            "What a run may use of its device, such as 8GB, 7.5GiB or a number of bytes; steps are"
                + " cut and layers computed again to keep to it. Unset: no bound")
        @Amount
        Optional<String> budget,
    @Doc(
            "Activations between forward and backward pass: keep, recompute (all layers), offload"
                + " (to the host, as many layers as the budget asks), or auto (kept, but computed"
                + " again for as many layers as the budget asks)")
        @Default("auto")
        Activations activations,
    @Doc(
            "Where a frozen embedding is: device, or host, which spares a CUDA device its bytes and"
                + " is read over the bus row by row; the head is on the device either way")
        @Default("device")
        Embedding embedding) {

  /** What becomes of activations. */
  public enum Activations {
    AUTO,
    KEEP,
    RECOMPUTE,
    OFFLOAD
  }

  /** Where the embedding is. */
  public enum Embedding {
    DEVICE,
    HOST
  }

  public MemorySection {
    budget.ifPresent(text -> Bytes.parse("budget", text));
  }

  /** The budget in bytes; 0: none. */
  public long budgetBytes() {
    return budget.map(text -> Bytes.parse("memory.budget", text)).orElse(0L);
  }
}
