package org.lethe.method;

import java.util.List;

/**
 * NPO, negative preference optimisation: loss = −(2/β)·(1/n) Σ log σ(β·(nll − nll_ref)) over the n
 * sequences of role FORGET, each nll summed over the sequence's rows.
 *
 * <p>Reduction: sum per sequence, then mean over sequences; no length normalisation. Positions:
 * ANSWER by default. β 0.1 by default. Where the model equals the reference the loss is (2/β)·log 2
 * and the gradient that of −nll. Source: Zhang et al., "Negative Preference Optimization" (arXiv
 * 2404.05868).
 */
record Npo(double beta, Positions positions) implements Loss {
  Npo(LossOptions options) {
    this(options.beta().orElse(DEFAULT_BETA), options.positions().orElse(Positions.ANSWER));
  }

  @Override
  public String name() {
    return "NPO";
  }

  @Override
  public List<Use> uses() {
    return List.of(new Use(Role.FORGET, positions, RowKind.NLL, ReferenceUse.SEQUENCE_NLL));
  }

  @Override
  public double scale() {
    return 2 / beta;
  }

  @Override
  public long count(Totals totals) {
    return totals.sequences(Role.FORGET);
  }

  @Override
  public void evaluate(RowStatistics rows, List<Sequence> sequences, Accumulator out) {
    for (Sequence forget : Reductions.of(Role.FORGET, sequences)) {
      double margin = rows.nll(forget) - forget.referenceNll();
      out.slope(forget, Reductions.logistic(beta, margin, out));
    }
  }
}
