package org.lethe.method;

import java.util.List;

/**
 * KL, staying near the reference on retain rows: loss = (1/N) Σ KL(p_ref‖p) over the N rows of role
 * RETAIN.
 *
 * <p>Reduction: mean over the step's rows. Positions: ALL by default, question and answer, as in
 * TOFU's code (arXiv 2401.06121) and in that of arXiv 2410.08109, which count padding too; here
 * there is none. EVERY adds the last row, which predicts nothing that is known, as their code does,
 * which masks nothing. Needs the reference's hidden states. 0 with gradient 0 where the model
 * equals the reference.
 */
record KlRetain(String name, Positions positions, boolean crossEntropy) implements Loss {
  static final LossSpec SPEC =
      LossSpec.of(
              Side.RETAIN,
              "KL",
              "staying near the reference on retain rows",
              o -> new KlRetain("KL", o.positions(), false))
          .formula("mean KL(p_ref || p)", "mean over rows")
          .source(
              "Maini et al. (TOFU), arXiv 2401.06121; closer-look; open-unlearning",
              "their code masks nothing: padding counts, which is not offered, and so does the last"
                  + " position (positions: every)")
          .options(
              Option.choice(
                  "positions",
                  Positions.ALL,
                  "rows the loss looks at",
                  "TOFU's code without its padding and last position",
                  Positions.ANSWER,
                  Positions.ALL,
                  Positions.SPANS,
                  Positions.EVERY));

  private Use use() {
    return new Use(Role.RETAIN, positions, RowKind.REFERENCE_KL, ReferenceUse.HIDDEN);
  }

  @Override
  public List<Use> uses() {
    return List.of(use());
  }

  @Override
  public double scale() {
    return 1;
  }

  @Override
  public long count(Totals totals) {
    return totals.rows(use());
  }

  @Override
  public void evaluate(Observed seen, Accumulator out) {
    RowStatistics rows = seen.rows();
    Reduction.TOKEN_MEAN.terms(
        seen, use(), row -> rows.kl(row) + (crossEntropy ? rows.referenceEntropy(row) : 0), out);
  }
}
