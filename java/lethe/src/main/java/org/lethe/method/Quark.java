package org.lethe.method;

import java.util.List;

/**
 * Quark's objective (Lu et al., NeurIPS 2022, arXiv 2205.13636; main.py of GXimingLu/Quark) on
 * answers that the model sampled itself, each behind a control token that stands for the quantile
 * of its reward:
 *
 * <pre>  loss = (1/N) Σ nll + β·KL(p‖p_ref) − α·H(p)      over the N answer rows of role TARGET
 * </pre>
 *
 * <p>β 0.05, α 0.06. The reference reads the sequence without its control token, which is the
 * counterpart. {@code lethe unlearn} runs the loop around it, which samples. The embedding is
 * frozen under LoRA, so the control tokens are existing ones of the vocabulary, named in the
 * configuration, where the code adds rows to the embedding; and where it leaves the added columns
 * out of p in the divergence, here is nothing to leave out.
 */
final class Quark {
  static final LossSpec SPEC =
      LossSpec.several(Side.FORGET, "Quark", "quantised reward conditioning", Quark::losses)
          .formula("mean nll + beta KL(p || p_ref) - alpha H(p)", "mean over rows")
          .source(
              "Lu et al., arXiv 2205.13636; GXimingLu/Quark",
              "lethe unlearn samples, pools and trains as the section quark says; its control"
                  + " tokens (quark.tokens) are existing ones, since the embedding is frozen, where"
                  + " the code adds some; they stand at the front, behind bos;"
                  + " evaluate.control_token judges behind the best one, as the code does")
          .complete()
          .options(
              Option.atLeast(0, "kl", 0.05, "weight of the divergence", "Quark's code"),
              Option.atLeast(0, "entropy", 0.06, "weight of the entropy", "Quark's code"));

  private Quark() {}

  private static List<Weighted> losses(Options o) {
    Positions answer = Positions.ANSWER;
    Use near =
        new Use(Role.TARGET, answer, RowKind.KL_REFERENCE, ReferenceUse.HIDDEN)
            .from(new Sources(Sources.TRAINED, null, true));
    Use wide = new Use(Role.TARGET, answer, RowKind.KL_UNIFORM, ReferenceUse.NONE);
    return List.of(
        new Weighted(
            1,
            new Rowwise(
                "Quark", Use.nll(Role.TARGET, answer), Reduction.TOKEN_MEAN, 1, rows -> rows::nll)),
        new Weighted(o.number("kl"), Rowwise.divergence("Quark_KL", near, Reduction.TOKEN_MEAN)),
        // The gradient of -H is that of KL(p || U), log V more.
        new Weighted(
            o.number("entropy"),
            new Rowwise(
                "Quark_entropy",
                wide,
                Reduction.TOKEN_MEAN,
                -1,
                rows ->
                    new Reduction.RowValue() {
                      @Override
                      public double at(int row) {
                        return rows.entropy(row);
                      }

                      @Override
                      public double slope(int row) {
                        return -1;
                      }
                    })));
  }
}
