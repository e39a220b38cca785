package org.lethe.method;

import java.util.List;
import org.lethe.UserException;

/**
 * ME, maximum entropy: loss = (1/N) Σ D over the N rows of role FORGET, D the divergence between
 * the prediction p and the uniform distribution U over the vocabulary.
 *
 * <p>D is KL(U‖p) by default, as in the authors' code, or KL(p‖U), as their paper words it. With ε
 * above 0 it is −mean log(p + ε) − log V, which the code computes with 1e-12: where p has a peak of
 * 40 logits that takes nearly all of the gradient. ε is 0 by default. Reduction: mean over the
 * step's rows. Positions: ALL by default. No reference. Coefficient 0.1 by default. Source: Yuan et
 * al., "A Closer Look at Machine Unlearning for Large Language Models" (arXiv 2410.08109).
 */
record MaximumEntropy(EntropyDirection direction, double epsilon, Positions positions)
    implements Loss {
  MaximumEntropy {
    if (epsilon > 0 && direction == EntropyDirection.MODEL_TO_UNIFORM) {
      throw new UserException(
          "ME's epsilon "
              + epsilon
              + " belongs to the logarithm of KL(U || p); set epsilon=0, or"
              + " direction=uniform_to_model");
    }
  }

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
                  + " p), the default, with 1e-12 in its logarithm (epsilon) and over padding"
                  + " (parity.padding)")
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
                  "added to the probability inside the logarithm",
                  "the formula; closer-look's code has 1e-12, which takes the gradient from"
                      + " confident rows"),
              Option.positions(Positions.ALL, "closer-look's scripts (mask=false)"));

  private Use use() {
    if (epsilon > 0) {
      return new Use(Role.FORGET, positions, RowKind.UNIFORM_KL_EPSILON, ReferenceUse.NONE)
          .with(new RowParameters(1, 0, 0, (float) epsilon));
    }
    RowKind kind =
        direction == EntropyDirection.UNIFORM_TO_MODEL ? RowKind.UNIFORM_KL : RowKind.KL_UNIFORM;
    return new Use(Role.FORGET, positions, kind, ReferenceUse.NONE);
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
    RowStatistics rows = seen.rows();
    Reduction.RowValue value =
        switch (use().kind()) {
          case UNIFORM_KL_EPSILON -> rows::kl;
          case UNIFORM_KL -> rows::uniformKl;
          default -> rows::klUniform;
        };
    Reduction.TOKEN_MEAN.terms(seen, use(), value, out);
  }
}
