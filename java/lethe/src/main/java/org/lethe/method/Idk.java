package org.lethe.method;

/**
 * IDK, learning to refuse the forget questions: loss = mean of nll over the rows of role
 * FORGET_IDK.
 *
 * <p>Positions: ANSWER (the refusal) by default. No reference. Source: Maini et al., "TOFU: A Task
 * of Fictitious Unlearning for LLMs" (arXiv 2401.06121).
 */
final class Idk {
  static final LossSpec SPEC =
      LossSpec.of(
              Side.FORGET,
              "IDK",
              "learning to refuse",
              o -> new NllDescent("IDK", Role.FORGET_IDK, Reduction.TOKEN_MEAN, o.positions()))
          .formula("mean nll of a refusal to the forget question", "mean over rows")
          .source("Maini et al. (TOFU), arXiv 2401.06121", "")
          .options(Option.positions(Positions.ANSWER, "TOFU"));

  private Idk() {}
}
