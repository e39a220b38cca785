package org.lethe.method;

import java.util.List;

/**
 * GD, plain fine-tuning on the retain answers: loss = (1/N) Σ nll over the N rows of role RETAIN.
 * Alone it is the objective of fine-tuning.
 *
 * <p>Reduction: mean over the step's rows. Positions: ANSWER by default. No β, no reference.
 * Source: Liu et al., "Continual Learning and Private Unlearning" (arXiv 2203.12817), as "gradient
 * difference" in TOFU (arXiv 2401.06121).
 */
record GradientDescent(Positions positions) implements Loss {
  GradientDescent(LossOptions options) {
    this(options.positions().orElse(Positions.ANSWER));
  }

  @Override
  public String name() {
    return "GD";
  }

  @Override
  public List<Use> uses() {
    return List.of(new Use(Role.RETAIN, positions, RowKind.NLL, ReferenceUse.NONE));
  }

  @Override
  public double scale() {
    return 1;
  }

  @Override
  public long count(Totals totals) {
    return totals.rows(Role.RETAIN);
  }

  @Override
  public void evaluate(RowStatistics rows, List<Sequence> sequences, Accumulator out) {
    Reductions.perRow(Role.RETAIN, sequences, rows::nll, out);
  }
}
