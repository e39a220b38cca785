package org.lethe.method;

import java.util.Optional;
import java.util.OptionalDouble;

/**
 * An unlearning method as a configuration names it. What is empty takes the loss's own default.
 *
 * @param forget the forget loss, in any case, or "none" (fine-tuning)
 * @param retain the retain loss, in any case, or "none"
 * @param forgetBeta β of the forget loss, positive
 * @param retainBeta β of the retain loss, positive
 * @param forgetCoefficient weight of the forget loss, not negative
 * @param retainCoefficient weight of the retain loss, not negative
 * @param forgetPositions rows that the forget loss looks at
 * @param retainPositions rows that the retain loss looks at
 * @param direction the divergence that ME minimises
 */
public record MethodConfig(
    String forget,
    String retain,
    OptionalDouble forgetBeta,
    OptionalDouble retainBeta,
    OptionalDouble forgetCoefficient,
    OptionalDouble retainCoefficient,
    Optional<Positions> forgetPositions,
    Optional<Positions> retainPositions,
    EntropyDirection direction) {

  /**
   * A method with all defaults.
   *
   * @param name "ME+GD", or "NPO" for one without a retain loss
   */
  public static MethodConfig of(String name) {
    int plus = name.indexOf('+');
    String forget = plus < 0 ? name : name.substring(0, plus);
    String retain = plus < 0 ? Methods.NONE : name.substring(plus + 1);
    return new MethodConfig(
        forget.strip(),
        retain.strip(),
        OptionalDouble.empty(),
        OptionalDouble.empty(),
        OptionalDouble.empty(),
        OptionalDouble.empty(),
        Optional.empty(),
        Optional.empty(),
        EntropyDirection.UNIFORM_TO_MODEL);
  }

  /** The same with one β for both losses. */
  public MethodConfig withBeta(double beta) {
    return new MethodConfig(
        forget,
        retain,
        OptionalDouble.of(beta),
        OptionalDouble.of(beta),
        forgetCoefficient,
        retainCoefficient,
        forgetPositions,
        retainPositions,
        direction);
  }

  /** The same with these weights. */
  public MethodConfig withCoefficients(double forgetWeight, double retainWeight) {
    return new MethodConfig(
        forget,
        retain,
        forgetBeta,
        retainBeta,
        OptionalDouble.of(forgetWeight),
        OptionalDouble.of(retainWeight),
        forgetPositions,
        retainPositions,
        direction);
  }

  /** The same with these rows. */
  public MethodConfig withPositions(Positions ofForget, Positions ofRetain) {
    return new MethodConfig(
        forget,
        retain,
        forgetBeta,
        retainBeta,
        forgetCoefficient,
        retainCoefficient,
        Optional.of(ofForget),
        Optional.of(ofRetain),
        direction);
  }

  /** The same with this direction of ME. */
  public MethodConfig withDirection(EntropyDirection ofEntropy) {
    return new MethodConfig(
        forget,
        retain,
        forgetBeta,
        retainBeta,
        forgetCoefficient,
        retainCoefficient,
        forgetPositions,
        retainPositions,
        ofEntropy);
  }
}
