package org.lethe.config;

import java.util.List;
import java.util.Map;
import java.util.Optional;

/** Low-rank adapters. */
public record LoraSection(
    @Doc("Rank r of A [r, in] and B [out, r]") @Default("8") int rank,
    @Doc("The adapter's product is scaled by alpha / rank, or alpha / sqrt(rank) with rslora")
        @Default("16.0")
        double alpha,
    @Doc("Whether the scale divides by the root of the rank") @Default("false") boolean rslora,
    @Doc("Probability in [0, 1) with which an adapter's input is left out while training")
        @Default("0.0")
        double dropout,
    @Doc(
            "Linear layers that get an adapter, by the last part of their name or their whole name;"
                + " all-linear: every one in the decoder layers")
        @Default("[all-linear]")
        List<String> targets,
    @Doc(
            "Pattern (Python's re.fullmatch) over whole names such as"
                + " model.layers.0.self_attn.q_proj, in place of targets")
        Optional<String> targetRegex,
    @Doc("Linear layers that get none, named as in targets") @Default("[]") List<String> exclude,
    @Doc("Decoder layers that get adapters, counted from 0; empty: all") @Default("[]")
        List<Integer> layers,
    @Doc("Other ranks, by patterns of module names: {v_proj: 4}; the first that matches counts")
        @Default("{}")
        Map<String, Integer> rankPattern,
    @Doc("Other alphas, by patterns of module names; the first that matches counts") @Default("{}")
        Map<String, Double> alphaPattern,
    @Doc(
            "Adapter that unlearn trains: fresh, or continue (the one given as adapter, whose own"
                + " settings, dropout among them, then hold)")
        @Default("fresh")
        Start start) {

  /** The entry of {@link #targets} that means every linear of the decoder layers. */
  public static final String ALL_LINEAR = "all-linear";

  /** Beyond any linear's width: more has no use. */
  private static final int MOST_RANK = 65536;

  /** Where an adapter begins. */
  public enum Start {
    FRESH,
    CONTINUE
  }

  public LoraSection {
    Check.within("rank", 1, MOST_RANK, rank);
    Check.positive("alpha", alpha);
    Check.fraction("dropout", dropout);
    if (targets.isEmpty()) {
      throw new IllegalArgumentException("targets must name at least one linear layer");
    }
    if (targets.contains(ALL_LINEAR) && targets.size() > 1) {
      throw new IllegalArgumentException("targets has all-linear beside names; give one of them");
    }
    if (targetRegex.isPresent() && !targets.contains(ALL_LINEAR)) {
      throw new IllegalArgumentException(
          "targets and target_regex exclude each other; give one of them");
    }
    if (targetRegex.isPresent() && !layers.isEmpty()) {
      throw new IllegalArgumentException(
          "layers and target_regex exclude each other; let the pattern name the layers");
    }
    layers.forEach(layer -> Check.atLeast("layers", 0, layer));
    rankPattern.forEach((pattern, r) -> Check.within("rank_pattern " + pattern, 1, MOST_RANK, r));
    alphaPattern.forEach((pattern, a) -> Check.positive("alpha_pattern " + pattern, a));
  }

  /** The same for an adapter that trains on. */
  public LoraSection continued() {
    return new LoraSection(
        rank,
        alpha,
        rslora,
        dropout,
        targets,
        targetRegex,
        exclude,
        layers,
        rankPattern,
        alphaPattern,
        Start.CONTINUE);
  }
}
