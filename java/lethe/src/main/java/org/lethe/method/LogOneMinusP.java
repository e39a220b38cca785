package org.lethe.method;

import java.util.List;

/**
 * log1mp: loss = −(1/N) Σ log(1 − p) over the N rows of role FORGET, p the label's probability;
 * rows with log p below a threshold count as 0, and have no gradient.
 *
 * <p>Reduction: sum over rows above the threshold divided by the number of all rows. Positions:
 * ANSWER by default. No reference. −log(1 − p) = logsumexp z − logsumexp over the other tokens; its
 * derivative by nll is −p/(1 − p). Source: HarmBench, as used by Guo et al., "Mechanistic
 * Unlearning" (arXiv 2410.12949); code magikarp01/tasks, {@code inference_utils.py}.
 */
record LogOneMinusP(double threshold, Positions positions) implements Loss {
  private static final String CODE = "magikarp01/tasks, inference_utils.py";

  static final LossSpec SPEC =
      LossSpec.of(
              Side.FORGET,
              "log1mp",
              "the label's improbability",
              o -> new LogOneMinusP(o.number("threshold"), o.positions()))
          .formula("-mean log(1-p), 0 where log p < threshold", "mean over rows, those of 0 too")
          .source(
              "Guo et al., arXiv 2410.12949; code magikarp01/tasks",
              "the paper looks at the last answer token only: give answers of one token, or mark"
                  + " it (positions: spans)")
          .options(
              Option.number("threshold", -5, "log p below which a row counts as 0", CODE).atMost(0),
              Option.positions(Positions.ANSWER, CODE));

  private Use use() {
    return Use.nll(Role.FORGET, positions);
  }

  @Override
  public String name() {
    return "log1mp";
  }

  @Override
  public List<Use> uses() {
    return List.of(use());
  }

  @Override
  public double scale() {
    return 1;
  }

  @Override
  public long count(Totals totals) {
    return totals.rows(use());
  }

  @Override
  public void evaluate(Observed seen, Accumulator out) {
    RowStatistics rows = seen.rows();
    for (Sequence sequence : seen.of(use())) {
      for (int i = 0; i < sequence.rows(); i++) {
        int row = sequence.firstRow() + i;
        double nll = rows.nll(row);
        // Written so that an nll that is NaN is no row to drop.
        boolean dropped = -nll < threshold && Double.isFinite(nll);
        out.term(dropped ? 0 : Double.isFinite(nll) ? rows.othersNll(row) : Double.NaN);
        out.slope(row, dropped ? 0 : -rows.odds(row));
      }
    }
  }
}
