package org.lethe.method;

import java.util.List;

/**
 * ME, maximum entropy: loss = (1/N) Σ D over the N rows of role FORGET, D the divergence between
 * the prediction p and the uniform distribution U over the vocabulary.
 *
 * <p>D is KL(U‖p) by default, as in the authors' code, or KL(p‖U), as their paper words it; without
 * the code's 1e-12 inside the logarithm. Reduction: mean over the step's rows. Positions: ALL by
 * default. No β, no reference. Coefficient 0.1 by default. Source: Yuan et al., "A Closer Look at
 * Machine Unlearning for Large Language Models" (arXiv 2410.08109).
 */
record MaximumEntropy(EntropyDirection direction, Positions positions) implements Loss {
  MaximumEntropy(LossOptions options) {
    this(options.direction(), options.positions().orElse(Positions.ALL));
  }

  @Override
  public String name() {
    return "ME";
  }

  @Override
  public double defaultCoefficient() {
    return 0.1;
  }

  @Override
  public List<Use> uses() {
    RowKind kind =
        direction == EntropyDirection.UNIFORM_TO_MODEL ? RowKind.UNIFORM_KL : RowKind.KL_UNIFORM;
    return List.of(new Use(Role.FORGET, positions, kind, ReferenceUse.NONE));
  }

  @Override
  public double scale() {
    return 1;
  }

  @Override
  public long count(Totals totals) {
    return totals.rows(Role.FORGET);
  }

  @Override
  public void evaluate(RowStatistics rows, List<Sequence> sequences, Accumulator out) {
    Reductions.perRow(
        Role.FORGET,
        sequences,
        direction == EntropyDirection.UNIFORM_TO_MODEL ? rows::uniformKl : rows::klUniform,
        out);
  }
}
