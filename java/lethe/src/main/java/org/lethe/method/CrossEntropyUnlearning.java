package org.lethe.method;

import java.util.List;

/**
 * CE-U, cross-entropy unlearning: loss = (1/N) Σ CE(q, p) over the N rows of role FORGET that are
 * looked at, with q = the model's own prediction without the label, q_v = p_v/(1 − p_y) for v ≠ y,
 * which takes no part in the gradient.
 *
 * <p>CE(q, p) = H(q) − log(1 − p_y), and its gradient, p − q, is that of the nll times −p_y/(1 −
 * p_y). The first rows of an answer may be left out. Reduction: mean over the rows looked at.
 * Positions: ANSWER. No reference. Source: Yang, "CE-U: Cross Entropy Unlearning" (arXiv
 * 2503.01224), with its footnote on the first answer token; open-unlearning, {@code
 * src/trainer/unlearn/ceu.py}.
 */
record CrossEntropyUnlearning(int skip) implements Loss {
  static final LossSpec SPEC =
      LossSpec.of(
              Side.FORGET,
              "CE-U",
              "cross-entropy unlearning",
              o -> new CrossEntropyUnlearning(o.whole("skip")))
          .formula(
              "mean CE(q, p), q = p without the label, detached",
              "mean over the answer's rows after the first `skip`")
          .source("Yang, arXiv 2503.01224; open-unlearning", "")
          .options(
              Option.whole(
                  0,
                  "skip",
                  1,
                  "first rows of each answer that are left out",
                  "open-unlearning, CEU.yaml (ignore_first_n_answer_tokens)"));

  private static final Use USE = Use.nll(Role.FORGET, Positions.ANSWER);

  @Override
  public String name() {
    return "CE-U";
  }

  @Override
  public List<Use> uses() {
    return List.of(USE);
  }

  @Override
  public double scale() {
    return 1;
  }

  @Override
  public long count(Totals totals) {
    return totals.picked(USE, rows -> Math.max(0, rows - skip));
  }

  @Override
  public void evaluate(Observed seen, Accumulator out) {
    RowStatistics rows = seen.rows();
    for (Sequence sequence : seen.of(USE)) {
      for (int i = skip; i < sequence.rows(); i++) {
        int row = sequence.firstRow() + i;
        out.term(rows.entropyOfOthers(row) + rows.othersNll(row));
        out.slope(row, -rows.odds(row));
      }
    }
  }
}
