package org.lethe.method;

import java.util.List;

/**
 * AP, answer preservation: the retain question's own answer is kept likelier than a refusal to it.
 * loss = −(1/β)·(1/n) Σ log σ(β·(nll(RETAIN_IDK) − nll(RETAIN))) over the n pairs, each nll summed
 * over the sequence's rows.
 *
 * <p>Reduction: sum per sequence, then mean over pairs; the factor is 1/β, not NPO's 2/β.
 * Positions: ANSWER by default, for both answers. β 0.1 by default. No reference. Source: Yuan et
 * al., "A Closer Look at Machine Unlearning for Large Language Models" (arXiv 2410.08109).
 */
record AnswerPreservation(double beta, Positions positions) implements Loss {
  static final LossSpec SPEC =
      LossSpec.of(
              Side.RETAIN,
              "AP",
              "answer preservation",
              o -> new AnswerPreservation(o.number("beta"), o.positions()))
          .formula(
              "-(1/beta) mean log sigma(beta (nll(refusal) - nll(retain)))",
              "sum over a sequence's rows, mean over pairs")
          .source("Yuan et al. (closer-look), arXiv 2410.08109", "")
          .options(Option.beta("closer-look"), Option.positions(Positions.ANSWER, "closer-look"));

  private Use own() {
    return Use.nll(Role.RETAIN, positions);
  }

  private Use refusal() {
    return Use.nll(Role.RETAIN_IDK, positions);
  }

  @Override
  public String name() {
    return "AP";
  }

  @Override
  public List<Use> uses() {
    return List.of(own(), refusal());
  }

  @Override
  public double scale() {
    return 1 / beta;
  }

  @Override
  public long count(Totals totals) {
    return totals.pairs(own(), refusal());
  }

  @Override
  public void evaluate(Observed seen, Accumulator out) {
    for (Reductions.Pair pair : Reductions.pairs(seen, own(), refusal())) {
      double margin = seen.rows().nll(pair.second()) - seen.rows().nll(pair.first());
      double slope = Reductions.logistic(beta, margin, out);
      out.slope(pair.second(), slope);
      out.slope(pair.first(), -slope);
    }
  }
}
