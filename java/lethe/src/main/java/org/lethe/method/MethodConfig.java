package org.lethe.method;

import java.util.LinkedHashMap;
import java.util.Locale;
import java.util.Map;
import java.util.OptionalDouble;

/**
 * An unlearning method as a configuration names it. What is not given takes the loss's own default.
 *
 * @param forget the forget loss, in any case, or "none" (fine-tuning)
 * @param retain the retain loss, in any case, or "none"
 * @param forgetCoefficient weight of the forget loss, not negative
 * @param retainCoefficient weight of the retain loss, not negative
 * @param forgetOptions options of the forget loss by name
 * @param retainOptions options of the retain loss by name
 */
public record MethodConfig(
    String forget,
    String retain,
    OptionalDouble forgetCoefficient,
    OptionalDouble retainCoefficient,
    Map<String, Setting> forgetOptions,
    Map<String, Setting> retainOptions) {
  public MethodConfig {
    forgetOptions = Map.copyOf(forgetOptions);
    retainOptions = Map.copyOf(retainOptions);
  }

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
        Map.of(),
        Map.of());
  }

  /** The same with an option of the loss of one side. */
  public MethodConfig with(Side side, String option, Setting value) {
    boolean ofForget = side == Side.FORGET;
    Map<String, Setting> options = new LinkedHashMap<>(ofForget ? forgetOptions : retainOptions);
    options.put(option, value);
    return new MethodConfig(
        forget,
        retain,
        forgetCoefficient,
        retainCoefficient,
        ofForget ? options : forgetOptions,
        ofForget ? retainOptions : options);
  }

  /** The same with an option of the forget loss. */
  public MethodConfig withForget(String option, Object value) {
    return with(Side.FORGET, option, Setting.of(value));
  }

  /** The same with an option of the retain loss. */
  public MethodConfig withRetain(String option, Object value) {
    return with(Side.RETAIN, option, Setting.of(value));
  }

  /** The same with an option of the loss of one side, where that loss has such an option. */
  public MethodConfig withShared(Side side, String option, Setting value) {
    String name = side == Side.FORGET ? forget : retain;
    boolean has = Methods.find(side, name).filter(spec -> spec.has(option)).isPresent();
    return has ? with(side, option, value) : this;
  }

  /** The same with one β for both losses, as far as they have one. */
  public MethodConfig withBeta(double beta) {
    return withShared(Side.FORGET, "beta", Setting.of(beta))
        .withShared(Side.RETAIN, "beta", Setting.of(beta));
  }

  /** The same with these weights. */
  public MethodConfig withCoefficients(double forgetWeight, double retainWeight) {
    return new MethodConfig(
        forget,
        retain,
        OptionalDouble.of(forgetWeight),
        OptionalDouble.of(retainWeight),
        forgetOptions,
        retainOptions);
  }

  /** The same with these rows, as far as the losses let one choose. */
  public MethodConfig withPositions(Positions ofForget, Positions ofRetain) {
    return withShared(Side.FORGET, "positions", lower(ofForget))
        .withShared(Side.RETAIN, "positions", lower(ofRetain));
  }

  /** The same with this direction of ME. */
  public MethodConfig withDirection(EntropyDirection ofEntropy) {
    return withShared(Side.FORGET, "direction", lower(ofEntropy));
  }

  private static Setting lower(Enum<?> value) {
    return Setting.of(value.name().toLowerCase(Locale.ROOT));
  }
}
