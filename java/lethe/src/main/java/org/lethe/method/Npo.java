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
  static final LossSpec SPEC =
      LossSpec.of(
              Side.FORGET,
              "NPO",
              "negative preference optimisation",
              o -> new Npo(o.number("beta"), o.positions()))
          .formula(
              "-(2/beta) mean log sigma(beta (nll - nll_ref))",
              "sum over a sequence's rows, mean over sequences")
          .source(
              "Zhang et al., arXiv 2404.05868",
              "MUSE's code compares raw logits over the whole vocabulary instead, which is another"
                  + " loss and not offered")
          .options(
              Option.beta("NPO's code, closer-look and open-unlearning"),
              Option.positions(Positions.ANSWER, "NPO's code"));

  private Use use() {
    return Use.nllWithReference(Role.FORGET, positions);
  }

  @Override
  public String name() {
    return "NPO";
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
      double margin = seen.rows().nll(forget) - forget.referenceNll();
      out.slope(forget, Reductions.logistic(beta, margin, out));
    }
  }
}
