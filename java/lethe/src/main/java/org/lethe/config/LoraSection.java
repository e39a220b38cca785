package org.lethe.config;

import java.util.List;

/** Low-rank adapters. */
public record LoraSection(
    @Doc("Rank r of A [r, in] and B [out, r]") @Default("8") int rank,
    @Doc("The adapter's product is scaled by alpha / rank") @Default("16.0") double alpha,
    @Doc("Linear layers that get an adapter, by the last part of their name")
        @Default("[q_proj, k_proj, v_proj, o_proj, gate_proj, up_proj, down_proj]")
        List<String> targets,
    @Doc(
            "Adapter that unlearn trains: fresh, or continue (the one given as adapter, whose rank"
                + " and targets then hold)")
        @Default("fresh")
        Start start) {

  /** Where an adapter begins. */
  public enum Start {
    FRESH,
    CONTINUE
  }

  public LoraSection {
    Check.atLeast("rank", 1, rank);
    Check.positive("alpha", alpha);
    if (targets.isEmpty()) {
      throw new IllegalArgumentException("targets must name at least one linear layer");
    }
  }
}
