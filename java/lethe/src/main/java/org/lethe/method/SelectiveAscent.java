package org.lethe.method;

/**
 * SeUL, selective unlearning: GA over the rows that predict a token of a marked span, see {@link
 * GradientAscent}.
 *
 * <p>Source: Wang et al., "Selective Forgetting" (SeUL, arXiv 2402.05813). No code was published;
 * the reduction, a mean over all marked rows of the step, is an assumption.
 */
final class SelectiveAscent {
  static final LossSpec SPEC =
      LossSpec.of(
              Side.FORGET,
              "SeUL",
              "gradient ascent on marked spans",
              o -> new GradientAscent("SeUL", Reduction.of(o), Positions.SPANS))
          .formula("-R(nll) over rows that predict a marked token", "R: see its option")
          .source(
              "Wang et al., arXiv 2402.05813",
              "no code was published and the reduction is not said in print")
          .options(Reduction.option(Reduction.TOKEN_MEAN, "an assumption"));

  private SelectiveAscent() {}
}
