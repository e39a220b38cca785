package org.lethe.method;

import java.util.List;

/**
 * Gradient ascent with a weight per token: loss = −(1/N) Σ w·nll over the N rows of role FORGET, w
 * = p^β₁·(1 − p)^β₂ with p = e^−nll the label's probability, which takes no part in the gradient.
 *
 * <p>WGA (β₂ = 0): Wang et al., "Rethinking LLM Unlearning Objectives" (arXiv 2502.19301). SatImp:
 * Yang et al., "Exploring Criteria of Loss Reweighting to Enhance LLM Unlearning" (arXiv
 * 2505.11953), saturation p^β₁ times importance (1 − p)^β₂. Both as in open-unlearning, {@code
 * src/trainer/utils.py}. Reduction: mean over rows. Positions: ANSWER by default. No reference.
 */
record WeightedAscent(String name, double saturation, double importance, Positions positions)
    implements Loss {
  private static final String OPEN = "open-unlearning";

  static final LossSpec WGA =
      LossSpec.of(
              Side.FORGET,
              "WGA",
              "weighted gradient ascent",
              o -> new WeightedAscent("WGA", o.number("beta"), 0, o.positions()))
          .formula("-mean(p^beta nll), p detached", "mean over rows")
          .source("Wang et al., arXiv 2502.19301; open-unlearning", "")
          .options(
              Option.atLeast(0, "beta", 1, "power of the probability", OPEN + ", WGA.yaml"),
              Option.positions(Positions.ANSWER, OPEN));

  static final LossSpec SATIMP =
      LossSpec.of(
              Side.FORGET,
              "SatImp",
              "gradient ascent weighted by saturation and importance",
              o ->
                  new WeightedAscent("SatImp", o.number("beta1"), o.number("beta2"), o.positions()))
          .formula("-mean(p^beta1 (1-p)^beta2 nll), p detached", "mean over rows")
          .source(
              "Yang et al., arXiv 2505.11953; open-unlearning",
              "open-unlearning's YAML weighs it 0.1 with retain weight 1, the default here; its"
                  + " class and its README say 1 and 0.1")
          .coefficient(0.1, OPEN + ", SatImp.yaml (gamma)")
          .options(
              Option.atLeast(0, "beta1", 5, "power of the probability", OPEN + ", SatImp.yaml"),
              Option.atLeast(0, "beta2", 1, "power of 1 - probability", OPEN + ", SatImp.yaml"),
              Option.positions(Positions.ANSWER, OPEN));

  private Use use() {
    return Use.nll(Role.FORGET, positions);
  }

  @Override
  public List<Use> uses() {
    return List.of(use());
  }

  @Override
  public double scale() {
    return -1;
  }

  @Override
  public long count(Totals totals) {
    return totals.rows(use());
  }

  private double weight(double nll) {
    double others = -StrictMath.expm1(-nll);
    return StrictMath.exp(-saturation * nll)
        * (importance == 0 ? 1 : StrictMath.pow(others, importance));
  }

  @Override
  public void evaluate(Observed seen, Accumulator out) {
    for (Sequence sequence : seen.of(use())) {
      for (int i = 0; i < sequence.rows(); i++) {
        int row = sequence.firstRow() + i;
        double nll = seen.rows().nll(row);
        out.term(weight(nll) * nll);
        out.slope(row, weight(nll));
      }
    }
  }
}
