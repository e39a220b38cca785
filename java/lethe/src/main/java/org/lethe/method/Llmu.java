package org.lethe.method;

import java.util.List;

/**
 * LLMU: w₁·(−R(nll(FORGET))) + w₂·R(nll(FORGET_MISMATCH)) + w₃·KL(p_ref‖p)(RETAIN): ascent on the
 * forget answers, descent on someone else's answers to the forget questions, and closeness to the
 * reference on normal text. R is the mean over sequences of a sequence's mean; the KL is a mean
 * over rows.
 *
 * <p>Source: Yao et al., "Large Language Model Unlearning" (arXiv 2310.10683), code
 * kevinyaobytedance/llm_unlearn, {@code utils.py}. Their answer mask begins one row late and ends
 * at the padding; here it is the answer, as the paper means it. Closer-look's form has token means
 * and weights of 1. Gundavarapu et al. (arXiv 2405.15152) train an adapter with it.
 */
final class Llmu {
  private static final String YAO = "llm_unlearn, unlearn_harm.py";

  static final LossSpec SPEC =
      LossSpec.several(
              Side.FORGET, "LLMU", "ascent, mismatched answers and closeness", Llmu::losses)
          .formula(
              "forget_weight (-R(nll(forget))) + mismatch_weight R(nll(forget question, other"
                  + " answer)) + normal_weight mean KL(p_ref || p)(retain)",
              "R: mean over a sequence's rows, then over sequences; KL: mean over rows")
          .source(
              "Yao et al., arXiv 2310.10683; code llm_unlearn; closer-look; Gundavarapu et al.,"
                  + " arXiv 2405.15152",
              "Yao's code masks from one row after the answer's first; here the whole answer"
                  + " counts. closer-look: reduction token_mean, forget_weight 1. Gundavarapu's"
                  + " LoRA variant: lora.rank 16, lora.alpha 32, lora.dropout 0.05, learning rate"
                  + " 2e-4; their reference shares the adapter with the model, so that their KL is"
                  + " 0; here it is the base")
          .complete()
          .options(
              Option.atLeast(0, "forget_weight", 0.5, "weight of the ascent", YAO),
              Option.atLeast(0, "mismatch_weight", 1, "weight of other answers", YAO),
              Option.atLeast(0, "normal_weight", 1, "weight of the KL", YAO),
              Reduction.option(Reduction.SEQUENCE_MEAN, "llm_unlearn, utils.py"),
              Option.choice(
                  "kl_positions",
                  Positions.EVERY,
                  "rows of the KL",
                  "llm_unlearn, utils.py, without padding",
                  Positions.ANSWER,
                  Positions.ALL,
                  Positions.EVERY),
              Option.flag(
                  "cross_entropy",
                  true,
                  "whether the KL's value contains the reference's entropy, a constant",
                  "llm_unlearn, utils.py"));

  private Llmu() {}

  private static List<Weighted> losses(Options o) {
    Reduction reduction = Reduction.of(o);
    return List.of(
        new Weighted(
            o.number("forget_weight"),
            new GradientAscent("LLMU_forget", reduction, Positions.ANSWER)),
        new Weighted(
            o.number("mismatch_weight"),
            new NllDescent("LLMU_mismatch", Role.FORGET_MISMATCH, reduction, Positions.ANSWER)),
        new Weighted(
            o.number("normal_weight"),
            new KlRetain(
                "LLMU_normal",
                o.choice("kl_positions", Positions.class),
                o.flag("cross_entropy"))));
  }
}
