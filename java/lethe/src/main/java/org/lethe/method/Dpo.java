package org.lethe.method;

import java.util.List;

/**
 * DPO with the refusal preferred to the forget answer: loss = −(2/β)·(1/n) Σ log σ(β·m) over the n
 * pairs, m = (nll − nll_ref)(FORGET) − (nll − nll_ref)(FORGET_IDK), each nll summed over the
 * sequence's rows.
 *
 * <p>Reduction: sum per sequence, then mean over pairs. The factor is 2/β, as for NPO; TOFU's own
 * code has 1. Positions: ANSWER by default, for both answers. β 0.1 by default. Where the model
 * equals the reference the loss is (2/β)·log 2. Sources: Rafailov et al., "Direct Preference
 * Optimization" (arXiv 2305.18290); the form as used by "A Closer Look at Machine Unlearning for
 * Large Language Models" (arXiv 2410.08109).
 */
record Dpo(double beta, Positions positions) implements Loss {
  Dpo(LossOptions options) {
    this(options.beta().orElse(DEFAULT_BETA), options.positions().orElse(Positions.ANSWER));
  }

  @Override
  public String name() {
    return "DPO";
  }

  @Override
  public List<Use> uses() {
    return List.of(
        new Use(Role.FORGET, positions, RowKind.NLL, ReferenceUse.SEQUENCE_NLL),
        new Use(Role.FORGET_IDK, positions, RowKind.NLL, ReferenceUse.SEQUENCE_NLL));
  }

  @Override
  public double scale() {
    return 2 / beta;
  }

  @Override
  public long count(Totals totals) {
    return totals.pairs(Role.FORGET, Role.FORGET_IDK);
  }

  @Override
  public void evaluate(RowStatistics rows, List<Sequence> sequences, Accumulator out) {
    for (Reductions.Pair pair : Reductions.pairs(Role.FORGET, Role.FORGET_IDK, sequences)) {
      double forgotten = rows.nll(pair.first()) - pair.first().referenceNll();
      double refused = rows.nll(pair.second()) - pair.second().referenceNll();
      double slope = Reductions.logistic(beta, forgotten - refused, out);
      out.slope(pair.first(), slope);
      out.slope(pair.second(), -slope);
    }
  }
}
