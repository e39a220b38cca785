package org.lethe.method;

import java.util.List;

/**
 * ME as the authors' code computes it to the letter: loss = (1/N) Σ −(1/V) Σ_v log(p_v + ε) − log V
 * over the N rows of role FORGET.
 *
 * <p>ε is 1e-12 by default. It bounds the loss and takes the gradient from confident rows: with a
 * peak of 40 logits over 32 000 tokens nearly all of it, where {@link MaximumEntropy} keeps it.
 * Reduction: mean over the step's rows. Positions: ALL by default; the code counts padding, too
 * ({@code parity.padding}). No reference. Coefficient 0.1 by default. Source: Yuan et al., "A
 * Closer Look at Machine Unlearning for Large Language Models" (arXiv 2410.08109), {@code
 * trainer/losses.py}.
 */
record MaximumEntropyEpsilon(double epsilon, Positions positions) implements Loss {
  static final LossSpec SPEC =
      LossSpec.of(
              Side.FORGET,
              "ME_EPSILON",
              "maximum entropy with an epsilon in its logarithm",
              o -> new MaximumEntropyEpsilon(o.number("epsilon"), o.positions()))
          .formula("mean of -mean_v log(p_v + epsilon) - log V", "mean over rows")
          .source(
              "Yuan et al. (closer-look), arXiv 2410.08109",
              "the code of their ME; its rows include padding (parity.padding)")
          .coefficient(
              0.1, "closer-look's TOFU scripts; 1 in its continual, 0.5 in real-world ones")
          .options(
              Option.above(0, "epsilon", 1e-12, "added to each probability", "closer-look's code"),
              Option.positions(Positions.ALL, "closer-look's scripts (mask=false)"));

  private Use use() {
    return new Use(Role.FORGET, positions, RowKind.UNIFORM_KL_EPSILON, ReferenceUse.NONE)
        .with(new RowParameters(1, 0, 0, (float) epsilon));
  }

  @Override
  public String name() {
    return "ME_EPSILON";
  }

  @Override
  public List<Use> uses() {
    return List.of(use());
  }

  @Override
  public double scale() {
    return 1;
  }

  @Override
  public long count(Totals totals) {
    return totals.rows(use());
  }

  @Override
  public void evaluate(Observed seen, Accumulator out) {
    Reduction.TOKEN_MEAN.terms(seen, use(), seen.rows()::kl, out);
  }
}
