package org.lethe.method;

import java.util.List;

/**
 * KTO with forget answers as undesirable ones: loss = (1/n) Σ (1 − (2/β)·g(K + β·(nll − nll_ref)))
 * over the n sequences of role FORGET, each nll summed over the sequence's rows; g is σ or log σ. K
 * = the mean over the step's refusals (FORGET_IDK) of nll_ref − nll takes no part in the gradient.
 *
 * <p>K is not multiplied by β, as in the code. It is a mean over the whole step, so a step of
 * several micro-batches is passed forward twice. Positions: ANSWER by default. Source: Ethayarajh
 * et al., "KTO" (arXiv 2402.01306), in the form of Zhang et al.'s code for "Negative Preference
 * Optimization", {@code TOFU/dataloader.py} (kto_sigmoid, kto_logsigmoid).
 */
record Kto(double beta, Link link, Positions positions) implements Loss {
  private static final String CODE = "NPO's code, TOFU/dataloader.py";

  /** The function around the margin. */
  enum Link {
    SIGMOID,
    LOGSIGMOID
  }

  static final LossSpec SPEC =
      LossSpec.of(
              Side.FORGET,
              "KTO",
              "Kahneman-Tversky optimisation",
              o -> new Kto(o.number("beta"), o.choice("link", Link.class), o.positions()))
          .formula(
              "mean(1 - (2/beta) g(K + beta (nll - nll_ref))), K = mean(nll_ref - nll)(refusals),"
                  + " detached",
              "sum over a sequence's rows, mean over sequences")
          .source(
              "Ethayarajh et al., arXiv 2402.01306; code of NPO, arXiv 2404.05868",
              "KTO's paper has the sigmoid, the default; NPO's code has both (link) and does not"
                  + " multiply K by beta, nor clamp it at 0")
          .options(
              Option.beta(CODE),
              Option.choice("link", Link.SIGMOID, "g", "KTO's paper", Link.values()),
              Option.positions(Positions.ANSWER, CODE));

  private Use forget() {
    return Use.nllWithReference(Role.FORGET, positions);
  }

  private Use refusal() {
    return new Use(Role.FORGET_IDK, positions, RowKind.STATISTICS, ReferenceUse.SEQUENCE_NLL);
  }

  @Override
  public String name() {
    return "KTO";
  }

  @Override
  public List<Use> uses() {
    return List.of(forget(), refusal());
  }

  @Override
  public double scale() {
    return 1;
  }

  @Override
  public long count(Totals totals) {
    return totals.sequences(forget());
  }

  @Override
  public int measures() {
    return 1;
  }

  @Override
  public void measure(Observed seen, Measured out) {
    for (Sequence refusal : seen.of(refusal())) {
      out.add(0, refusal.referenceNll() - seen.rows().nll(refusal));
    }
  }

  @Override
  public void evaluate(Observed seen, Accumulator out) {
    double baseline = seen.measured()[0] / seen.totals().sequences(refusal());
    for (Sequence sequence : seen.of(forget())) {
      double x = baseline + beta * (seen.rows().nll(sequence) - sequence.referenceNll());
      double at = Double.isInfinite(x) ? Double.NaN : x;
      double sigmoid = Logistic.sigmoid(at);
      boolean plain = link == Link.SIGMOID;
      double value = plain ? sigmoid : -Logistic.softplus(-at);
      double slope = plain ? sigmoid * Logistic.sigmoid(-at) : Logistic.sigmoid(-at);
      out.term(1 - 2 / beta * value);
      out.slope(sequence, -2 * slope);
    }
  }
}
