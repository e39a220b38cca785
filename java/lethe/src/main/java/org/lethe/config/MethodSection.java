package org.lethe.config;

/** What is minimised: forget_coefficient · forget loss + retain_coefficient · retain loss. */
public record MethodSection(
    @Doc("Forget loss: GA, NPO, DPO, IDK or ME") @Default("ME") String forget,
    @Doc("Retain loss: none, GD, KL or AP") @Default("GD") String retain,
    @Doc("Inverse temperature of NPO, DPO and AP") @Default("0.1") double beta,
    @Doc("Weight of the forget loss") @Default("1.0") double forgetCoefficient,
    @Doc("Weight of the retain loss") @Default("1.0") double retainCoefficient,
    @Doc("Tokens the losses look at: answer, or all (question and answer)") @Default("answer")
        Positions positions,
    @Doc("Direction of ME: uniform_model is KL(uniform||model), model_uniform the reverse")
        @Default("uniform_model")
        MeDirection meDirection,
    @Doc("Reference model of NPO, DPO and KL: cached (computed once) or in_batch (every step)")
        @Default("cached")
        Reference reference) {

  /** Tokens a loss looks at. */
  public enum Positions {
    ANSWER,
    ALL
  }

  /** Direction of the divergence that ME minimises. */
  public enum MeDirection {
    UNIFORM_MODEL,
    MODEL_UNIFORM
  }

  /** Where the reference model's numbers come from. */
  public enum Reference {
    CACHED,
    IN_BATCH
  }

  public MethodSection {
    Check.positive("beta", beta);
    Check.notNegative("forget_coefficient", forgetCoefficient);
    Check.notNegative("retain_coefficient", retainCoefficient);
  }
}
