package org.lethe.config;

import java.nio.file.Path;
import java.util.Map;
import java.util.Optional;

/** What is minimised: forget_coefficient · forget loss + retain_coefficient · retain loss. */
public record MethodSection(
    @Doc("Forget loss: ME, NPO, GA, ... (docs/methods.md lists them)") @Default("ME") String forget,
    @Doc("Retain loss: none, GD, KL or AP") @Default("GD") String retain,
    @Doc("Options of the forget loss by name, such as {beta: 0.1}; docs/methods.md lists them")
        Map<String, OptionValue> forgetOptions,
    @Doc("Options of the retain loss by name") Map<String, OptionValue> retainOptions,
    @Doc("Inverse temperature of NPO and DPO; unset: the loss's own") Optional<Double> forgetBeta,
    @Doc("Inverse temperature of AP; unset: the loss's own") Optional<Double> retainBeta,
    @Doc("Weight of the forget loss; unset: the loss's own") Optional<Double> forgetCoefficient,
    @Doc("Weight of the retain loss; unset: the loss's own") Optional<Double> retainCoefficient,
    @Doc(
            "Tokens the forget loss looks at: answer, all (question too) or marked spans; unset:"
                + " its own")
        Optional<Positions> forgetPositions,
    @Doc("Tokens the retain loss looks at; unset: the loss's own")
        Optional<Positions> retainPositions,
    @Doc("Direction of ME: uniform_to_model is KL(uniform||model), the other is its reverse")
        @Default("uniform_to_model")
        MeDirection meDirection,
    @Doc("Reference model of NPO, DPO and KL: cached (computed once) or in_batch (every step)")
        @Default("cached")
        Reference reference,
    @Doc("Directory of cached reference numbers, which runs may share; unset: the output's own")
        Optional<Path> referenceCache) {

  /** Tokens a loss looks at. */
  public enum Positions {
    ANSWER,
    ALL,
    SPANS,
    ANSWER_UNSHIFTED,
    EVERY
  }

  /** Direction of the divergence that ME minimises. */
  public enum MeDirection {
    UNIFORM_TO_MODEL,
    MODEL_TO_UNIFORM
  }

  /** Where the reference model's numbers come from. */
  public enum Reference {
    CACHED,
    IN_BATCH
  }

  public MethodSection {
    forgetBeta.ifPresent(value -> Check.positive("forget_beta", value));
    retainBeta.ifPresent(value -> Check.positive("retain_beta", value));
    forgetCoefficient.ifPresent(value -> Check.notNegative("forget_coefficient", value));
    retainCoefficient.ifPresent(value -> Check.notNegative("retain_coefficient", value));
  }
}
