package org.lethe.method;

/**
 * UNDIAL, self-distillation with adjusted logits: loss = (1/N) Σ CE(r, p) over the N rows of role
 * FORGET, r = softmax(w − β·e_y), w the reference's logits, y the row's label.
 *
 * <p>CE(r, p) = KL(r‖p) + H(r). Reduction: mean over rows. Positions: ANSWER by default. Needs the
 * reference's hidden states. Source: Dong et al., "UNDIAL: Self-Distillation with Adjusted Logits
 * for Robust Unlearning in Large Language Models" (arXiv 2402.10052); open-unlearning, {@code
 * src/trainer/utils.py}, which averages over all positions and takes β off token V − 100 where
 * there is no label; here ALL takes it off the question's own tokens.
 */
final class Undial {
  private static final String OPEN = "open-unlearning, UNDIAL.yaml";

  static final LossSpec SPEC =
      LossSpec.of(
              Side.FORGET,
              "UNDIAL",
              "self-distillation with adjusted logits",
              o -> loss(o.number("beta"), o.positions()))
          .formula("mean CE(softmax(w_ref - beta e_y), p)", "mean over rows")
          .source(
              "Dong et al., arXiv 2402.10052; open-unlearning",
              "open-unlearning averages over every position and takes beta off token V - 100 where"
                  + " a position has no label; here the answer counts, and with positions: all the"
                  + " question, beta taken off its own tokens. Its retain weight is 0 by default"
                  + " (set method.retain=none)")
          .options(
              Option.atLeast(0, "beta", 10, "what is taken off the label's logit", OPEN),
              Option.positions(Positions.ANSWER, "the paper; open-unlearning has all positions"));

  private Undial() {}

  private static Loss loss(double beta, Positions positions) {
    Use use =
        new Use(Role.FORGET, positions, RowKind.REFERENCE_KL, ReferenceUse.HIDDEN)
            .with(new RowParameters(1, (float) beta, 0, 0));
    return new Rowwise(
        "UNDIAL",
        use,
        Reduction.TOKEN_MEAN,
        1,
        rows -> row -> rows.kl(row) + rows.referenceEntropy(row));
  }
}
