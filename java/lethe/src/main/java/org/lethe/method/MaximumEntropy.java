package org.lethe.method;

import java.util.List;

/**
 * ME, maximum entropy: loss = (1/N) Σ D over the N rows of role FORGET, D the divergence between
 * the prediction p and the uniform distribution U over the vocabulary.
 *
 * <p>D is KL(U‖p) by default, as in the authors' code, or KL(p‖U), as their paper words it; without
 * the code's 1e-12 inside the logarithm unless ε is given: then −mean log(p + ε) − log V.
 * Reduction: mean over the step's rows. Positions: ALL by default. No reference. Coefficient 0.1 by
 * default. Source: Yuan et al., "A Closer Look at Machine Unlearning for Large Language Models"
 * (arXiv 2410.08109).
 */
record MaximumEntropy(EntropyDirection direction, double epsilon, Positions positions)
    implements Loss {
  static final LossSpec SPEC =
      LossSpec.of(
              Side.FORGET,
              "ME",
              "maximum entropy",
              o ->
                  new MaximumEntropy(
                      o.choice("direction", EntropyDirection.class),
                      o.number("epsilon"),
                      o.positions()))
          .formula("mean KL(U || p)", "mean over rows")
          .source(
              "Yuan et al. (closer-look), arXiv 2410.08109",
              "the paper words KL(p || U) (direction: model_to_uniform), the code computes KL(U ||"
                  + " p), the default; the code's rows include padding, which does not exist here")
          .coefficient(
              0.1, "closer-look's TOFU scripts; 1 in its continual, 0.5 in real-world ones")
          .options(
              Option.choice(
                  "direction",
                  EntropyDirection.UNIFORM_TO_MODEL,
                  "divergence that is minimised",
                  "closer-look's code",
                  EntropyDirection.values()),
              Option.atLeast(
                      0,
                      "epsilon",
                      0,
                      "added to probabilities inside the logarithm of uniform_to_model",
                      "exact; closer-look's code has 1e-12")
                  .atMost(1),
              Option.positions(Positions.ALL, "closer-look's scripts (mask=false)"));

  private boolean floored() {
    return direction == EntropyDirection.UNIFORM_TO_MODEL && epsilon > 0;
  }

  private Use use() {
    RowKind kind =
        floored()
            ? RowKind.UNIFORM_KL_EPS
            : direction == EntropyDirection.UNIFORM_TO_MODEL
                ? RowKind.UNIFORM_KL
                : RowKind.KL_UNIFORM;
    Use use = new Use(Role.FORGET, positions, kind, ReferenceUse.NONE);
    return floored() ? use.with(new RowParameters(1, 0, 0, (float) epsilon)) : use;
  }

  @Override
  public String name() {
    return "ME";
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
    Reduction.RowValue value =
        floored()
            ? seen.rows()::kl
            : direction == EntropyDirection.UNIFORM_TO_MODEL
                ? seen.rows()::uniformKl
                : seen.rows()::klUniform;
    Reduction.TOKEN_MEAN.terms(seen, use(), value, out);
  }
}
