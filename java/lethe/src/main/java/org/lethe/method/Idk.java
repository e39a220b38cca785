package org.lethe.method;

import java.util.List;

/**
 * IDK, learning to refuse the forget questions: loss = (1/N) Σ nll over the N rows of role
 * FORGET_IDK.
 *
 * <p>Reduction: mean over the step's rows. Positions: ANSWER (the refusal) by default. No β, no
 * reference. Source: Maini et al., "TOFU: A Task of Fictitious Unlearning for LLMs" (arXiv
 * 2401.06121).
 */
record Idk(Positions positions) implements Loss {
  Idk(LossOptions options) {
    this(options.positions().orElse(Positions.ANSWER));
  }

  @Override
  public String name() {
    return "IDK";
  }

  @Override
  public List<Use> uses() {
    return List.of(new Use(Role.FORGET_IDK, positions, RowKind.NLL, ReferenceUse.NONE));
  }

  @Override
  public double scale() {
    return 1;
  }

  @Override
  public long count(Totals totals) {
    return totals.rows(Role.FORGET_IDK);
  }

  @Override
  public void evaluate(RowStatistics rows, List<Sequence> sequences, Accumulator out) {
    Reductions.perRow(Role.FORGET_IDK, sequences, rows::nll, out);
  }
}
