package org.lethe.method;

/**
 * AltPO: DPO with another plausible answer to the forget question (FORGET_ALTERNATE) preferred to
 * its own, see {@link Dpo}.
 *
 * <p>Source: Mekala et al., "Alternate Preference Optimization for Unlearning Factual Knowledge in
 * Large Language Models" (arXiv 2409.13474); open-unlearning runs it as DPO on alternates.
 */
final class AltPo {
  private static final String OPEN = "open-unlearning, DPO.yaml";

  static final LossSpec SPEC =
      LossSpec.of(
              Side.FORGET,
              "AltPO",
              "DPO towards alternate answers",
              o -> new Dpo("AltPO", Role.FORGET_ALTERNATE, o.number("beta"), o.positions()))
          .formula(
              "-(2/beta) mean log sigma(beta ((nll - nll_ref)(forget) - (nll -"
                  + " nll_ref)(alternate)))",
              "sum over a sequence's rows, mean over pairs")
          .source("Mekala et al., arXiv 2409.13474; open-unlearning", "")
          .options(Option.beta(OPEN), Option.positions(Positions.ANSWER, OPEN));

  private AltPo() {}
}
