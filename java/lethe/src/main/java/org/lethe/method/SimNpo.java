package org.lethe.method;

import java.util.List;

/**
 * SimNPO, NPO without a reference: loss = −(2/β)·(1/n) Σ log σ(β·(nll/|y| − δ)) over the n
 * sequences of role FORGET, each nll summed over the sequence's |y| rows.
 *
 * <p>Reduction: mean per sequence, then mean over sequences. Positions: ANSWER by default. No
 * reference. Source: Fan et al., "Simplicity Prevails: Rethinking Negative Preference Optimization
 * for LLM Unlearning" (arXiv 2410.07163); code Unlearn-Simple, {@code TOFU/dataloader.py}, whose γ
 * open-unlearning calls δ.
 */
record SimNpo(double beta, double delta, Positions positions) implements Loss {
  private static final String OPEN = "open-unlearning, SimNPO.yaml";

  static final LossSpec SPEC =
      LossSpec.of(
              Side.FORGET,
              "SimNPO",
              "NPO without a reference",
              o -> new SimNpo(o.number("beta"), o.number("delta"), o.positions()))
          .formula(
              "-(2/beta) mean log sigma(beta (nll/|y| - delta))",
              "mean over a sequence's rows, mean over sequences")
          .source(
              "Fan et al., arXiv 2410.07163; Unlearn-Simple; open-unlearning",
              "the authors' gamma is open-unlearning's delta; the authors' scripts take beta 2.5,"
                  + " coefficient 0.1375 on forget05, beta 4.5, 0.125 on forget10, the default")
          .coefficient(0.125, "open-unlearning, SimNPO.yaml (gamma)")
          .options(
              Option.above(0, "beta", 4.5, "inverse temperature of the preference", OPEN),
              Option.number("delta", 0, "margin taken off the mean nll (the paper's gamma)", OPEN),
              Option.positions(Positions.ANSWER, OPEN));

  private Use use() {
    return Use.nll(Role.FORGET, positions);
  }

  @Override
  public String name() {
    return "SimNPO";
  }

  @Override
  public List<Use> uses() {
    return List.of(use());
  }

  @Override
  public double scale() {
    return 2 / beta;
  }

  @Override
  public long count(Totals totals) {
    return totals.sequences(use());
  }

  @Override
  public void evaluate(Observed seen, Accumulator out) {
    for (Sequence forget : seen.of(use())) {
      double mean = seen.rows().nll(forget) / forget.rows();
      double slope = Reductions.logistic(beta, mean - delta, out);
      out.slope(forget, slope / forget.rows());
    }
  }
}
