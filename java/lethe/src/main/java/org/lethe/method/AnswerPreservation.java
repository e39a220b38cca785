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
  AnswerPreservation(LossOptions options) {
    this(options.beta().orElse(DEFAULT_BETA), options.positions().orElse(Positions.ANSWER));
  }

  @Override
  public String name() {
    return "AP";
  }

  @Override
  public List<Use> uses() {
    return List.of(
        new Use(Role.RETAIN, positions, RowKind.NLL, ReferenceUse.NONE),
        new Use(Role.RETAIN_IDK, positions, RowKind.NLL, ReferenceUse.NONE));
  }

  @Override
  public double scale() {
    return 1 / beta;
  }

  @Override
  public long count(Totals totals) {
    return totals.pairs(Role.RETAIN, Role.RETAIN_IDK);
  }

  @Override
  public void evaluate(RowStatistics rows, List<Sequence> sequences, Accumulator out) {
    for (Reductions.Pair pair : Reductions.pairs(Role.RETAIN, Role.RETAIN_IDK, sequences)) {
      double margin = rows.nll(pair.second()) - rows.nll(pair.first());
      double slope = Reductions.logistic(beta, margin, out);
      out.slope(pair.second(), slope);
      out.slope(pair.first(), -slope);
    }
  }
}
