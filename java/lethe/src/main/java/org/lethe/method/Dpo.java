package org.lethe.method;

import java.util.List;

/**
 * DPO with another answer preferred to the forget answer: loss = −(2/β)·(1/n) Σ log σ(β·m) over the
 * n pairs, m = (nll − nll_ref)(FORGET) − (nll − nll_ref)(preferred), each nll summed over the
 * sequence's rows. The preferred answer is a refusal (FORGET_IDK).
 *
 * <p>Reduction: sum per sequence, then mean over pairs. The factor is 2/β, as for NPO; TOFU's own
 * code has 1. Positions: ANSWER by default, for both answers. β 0.1 by default. Where the model
 * equals the reference the loss is (2/β)·log 2. Sources: Rafailov et al., "Direct Preference
 * Optimization" (arXiv 2305.18290); the form as used by "A Closer Look at Machine Unlearning for
 * Large Language Models" (arXiv 2410.08109).
 */
record Dpo(String name, Role preferred, double beta, Positions positions) implements Loss {
  static final LossSpec SPEC =
      LossSpec.of(
              Side.FORGET,
              "DPO",
              "direct preference optimisation towards a refusal",
              o -> new Dpo("DPO", Role.FORGET_IDK, o.number("beta"), o.positions()))
          .formula(
              "-(2/beta) mean log sigma(beta ((nll - nll_ref)(forget) - (nll - nll_ref)(refusal)))",
              "sum over a sequence's rows, mean over pairs")
          .source(
              "Rafailov et al., arXiv 2305.18290; closer-look, arXiv 2410.08109",
              "TOFU's code has the factor 1 for 2/beta: the same with forget_coefficient beta/2")
          .options(
              Option.beta("closer-look, open-unlearning"),
              Option.positions(Positions.ANSWER, "closer-look, open-unlearning"));

  private Use lost() {
    return Use.nllWithReference(Role.FORGET, positions);
  }

  private Use won() {
    return Use.nllWithReference(preferred, positions);
  }

  @Override
  public List<Use> uses() {
    return List.of(lost(), won());
  }

  @Override
  public double scale() {
    return 2 / beta;
  }

  @Override
  public long count(Totals totals) {
    return totals.pairs(lost(), won());
  }

  @Override
  public void evaluate(Observed seen, Accumulator out) {
    RowStatistics rows = seen.rows();
    for (Reductions.Pair pair : Reductions.pairs(seen, lost(), won())) {
      double forgotten = rows.nll(pair.first()) - pair.first().referenceNll();
      double learnt = rows.nll(pair.second()) - pair.second().referenceNll();
      double slope = Reductions.logistic(beta, forgotten - learnt, out);
      out.slope(pair.first(), slope);
      out.slope(pair.second(), -slope);
    }
  }
}
