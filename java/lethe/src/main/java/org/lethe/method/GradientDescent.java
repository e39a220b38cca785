package org.lethe.method;

/**
 * GD, plain fine-tuning on the retain answers: loss = R(nll) over the rows of role RETAIN, R the
 * mean over all rows by default. Alone it is the objective of fine-tuning.
 *
 * <p>Positions: ANSWER by default. No reference. Source: Liu et al., "Continual Learning and
 * Private Unlearning" (arXiv 2203.12817), as "gradient difference" in TOFU (arXiv 2401.06121).
 */
final class GradientDescent {
  private static final String TOFU = "TOFU, closer-look, open-unlearning";

  static final LossSpec SPEC =
      LossSpec.of(
              Side.RETAIN,
              "GD",
              "gradient descent on retain rows",
              o -> new NllDescent("GD", Role.RETAIN, Reduction.of(o), o.positions()))
          .formula("R(nll)", "R: token_mean, sequence_mean or sequence_sum")
          .source(
              "Liu et al., arXiv 2203.12817; TOFU, arXiv 2401.06121",
              "the code of \"unlearning-vs-safety\" sums over a sequence (reduction:"
                  + " sequence_sum); closer-look's ME scripts train on questions too (positions:"
                  + " all)")
          .options(
              Reduction.option(Reduction.TOKEN_MEAN, TOFU),
              Option.positions(Positions.ANSWER, TOFU));

  private GradientDescent() {}
}
