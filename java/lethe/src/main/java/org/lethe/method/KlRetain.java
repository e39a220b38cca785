package org.lethe.method;

import java.util.List;

/**
 * KL, staying near the reference on retain rows: loss = (1/N) Σ KL(p_ref‖p) over the N rows of role
 * RETAIN.
 *
 * <p>Reduction: mean over the step's rows. Positions: ALL by default, question and answer, as in
 * TOFU's code (arXiv 2401.06121) and in that of arXiv 2410.08109, which count padding too; here
 * there is none. No β. Needs the reference's hidden states. 0 with gradient 0 where the model
 * equals the reference.
 */
record KlRetain(Positions positions) implements Loss {
  KlRetain(LossOptions options) {
    this(options.positions().orElse(Positions.ALL));
  }

  @Override
  public String name() {
    return "KL";
  }

  @Override
  public List<Use> uses() {
    return List.of(new Use(Role.RETAIN, positions, RowKind.REFERENCE_KL, ReferenceUse.HIDDEN));
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
    Reductions.perRow(Role.RETAIN, sequences, rows::kl, out);
  }
}
