package org.lethe.method;

/**
 * GA_temp, gradient ascent on flattened predictions: loss = −(1/N) Σ nll_τ over the N rows of role
 * FORGET, nll_τ = −log softmax(z/τ)[y]. With KL beside it, UWC's KL_temp.
 *
 * <p>Reduction: mean over rows. Positions: ANSWER by default. No reference. Source: Wang et al.,
 * "Towards Effective Evaluations and Comparisons for LLM Unlearning Methods" (arXiv 2406.09179);
 * code tmlr-group/Unlearning-with-Control, {@code dataloader.py}.
 */
final class TemperedAscent {
  private static final String CODE = "Unlearning-with-Control, dataloader.py";

  static final LossSpec SPEC =
      LossSpec.of(
              Side.FORGET,
              "GA_temp",
              "gradient ascent with a temperature",
              o -> loss(o.number("temperature"), o.positions()))
          .formula("-mean nll of softmax(z/temperature)", "mean over rows")
          .source(
              "Wang et al. (ULC/UWC), arXiv 2406.09179; code Unlearning-with-Control",
              "KL_temp there is GA_temp+KL")
          .options(
              Option.above(0, "temperature", 2, "what logits are divided by", CODE).atMost(1e6),
              Option.positions(Positions.ANSWER, CODE));

  private TemperedAscent() {}

  private static Loss loss(double temperature, Positions positions) {
    Use use = Use.nll(Role.FORGET, positions).with(RowParameters.temperature(temperature));
    return new Rowwise("GA_temp", use, Reduction.TOKEN_MEAN, -1, rows -> rows::nll);
  }
}
