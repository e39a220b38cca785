package org.lethe.method;

import java.util.List;

/**
 * GA, gradient ascent on the forget answers: loss = −(1/N) Σ nll over the N rows of role FORGET.
 *
 * <p>Reduction: mean over the step's rows (long answers weigh more). Positions: ANSWER by default.
 * No β, no reference. Unbounded below. Source: Jang et al., "Knowledge Unlearning for Mitigating
 * Privacy Risks in Language Models" (arXiv 2210.01504).
 */
record GradientAscent(Positions positions) implements Loss {
  GradientAscent(LossOptions options) {
    this(options.positions().orElse(Positions.ANSWER));
  }

  @Override
  public String name() {
    return "GA";
  }

  @Override
  public List<Use> uses() {
    return List.of(new Use(Role.FORGET, positions, RowKind.NLL, ReferenceUse.NONE));
  }

  @Override
  public double scale() {
    return -1;
  }

  @Override
  public long count(Totals totals) {
    return totals.rows(Role.FORGET);
  }

  @Override
  public void evaluate(RowStatistics rows, List<Sequence> sequences, Accumulator out) {
    Reductions.perRow(Role.FORGET, sequences, rows::nll, out);
  }
}
