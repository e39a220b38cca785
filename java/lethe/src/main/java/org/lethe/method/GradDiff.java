package org.lethe.method;

import java.util.List;

/**
 * GradDiff, gradient difference: GA on the forget answers plus α times a retain loss, GD or KL. The
 * name that benchmarks give to GA+GD and GA+KL; it takes no retain loss beside it.
 *
 * <p>Source: Liu et al. (arXiv 2203.12817); Maini et al., "TOFU" (arXiv 2401.06121);
 * open-unlearning, {@code src/trainer/unlearn/grad_diff.py}.
 */
final class GradDiff {
  private static final String OPEN = "open-unlearning, GradDiff.yaml";

  /** The retain part. */
  enum Retain {
    GD,
    KL
  }

  static final LossSpec SPEC =
      LossSpec.several(Side.FORGET, "GradDiff", "gradient difference", GradDiff::losses)
          .formula("-mean nll(forget) + alpha * (mean nll(retain) or mean KL)", "mean over rows")
          .source(
              "Liu et al., arXiv 2203.12817; TOFU, arXiv 2401.06121; open-unlearning",
              "the same as forget: GA with retain: GD or KL; open-unlearning's KL counts every"
                  + " position, the last one and padding too (kl_positions: every, without"
                  + " padding)")
          .complete()
          .options(
              Option.choice("retain", Retain.GD, "the retain part", OPEN, Retain.values()),
              Option.atLeast(0, "alpha", 1, "weight of the retain part", OPEN),
              Option.positions(Positions.ANSWER, OPEN),
              Option.choice(
                  "kl_positions",
                  Positions.ALL,
                  "rows of the KL",
                  "open-unlearning without padding and last position",
                  Positions.ANSWER,
                  Positions.ALL,
                  Positions.EVERY));

  private GradDiff() {}

  private static List<Weighted> losses(Options o) {
    Reduction mean = Reduction.TOKEN_MEAN;
    Loss retain =
        o.choice("retain", Retain.class) == Retain.GD
            ? new NllDescent("GD", Role.RETAIN, mean, o.positions())
            : new KlRetain("KL", o.choice("kl_positions", Positions.class), false);
    return List.of(
        new Weighted(1, new GradientAscent("GA", mean, o.positions())),
        new Weighted(o.number("alpha"), retain));
  }
}
