package org.lethe.method;

import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.OptionalDouble;
import org.lethe.UserException;

/** The losses there are, by name. A new loss is one line here. */
public final class Methods {
  /** Stands for no loss. */
  public static final String NONE = "none";

  private static final List<LossSpec> ALL =
      List.of(
          GradientAscent.SPEC,
          Npo.SPEC,
          Dpo.SPEC,
          Idk.SPEC,
          MaximumEntropy.SPEC,
          GradDiff.SPEC,
          SimNpo.SPEC,
          WeightedAscent.WGA,
          WeightedAscent.SATIMP,
          LogOneMinusP.SPEC,
          CrossEntropyUnlearning.SPEC,
          Undial.SPEC,
          Pdu.SPEC,
          Kto.SPEC,
          AltPo.SPEC,
          Llmu.SPEC,
          TemperedAscent.SPEC,
          LowestAscent.SPEC,
          JangAscent.SPEC,
          SelectiveAscent.SPEC,
          Scrub.SPEC,
          Kga.SPEC,
          WhosHarryPotter.SPEC,
          Quark.SPEC,
          GradientDescent.SPEC,
          KlRetain.SPEC,
          AnswerPreservation.SPEC);

  private Methods() {}

  /** All losses, those of the forget side first. */
  public static List<LossSpec> all() {
    return ALL;
  }

  /** The losses of a side. */
  public static List<LossSpec> of(Side side) {
    return ALL.stream().filter(spec -> spec.side() == side).toList();
  }

  /** The names of the forget losses. */
  public static List<String> forgetNames() {
    return names(Side.FORGET);
  }

  /** The names of the retain losses. */
  public static List<String> retainNames() {
    return names(Side.RETAIN);
  }

  /** The loss of that name, in any case; empty when there is none. */
  public static Optional<LossSpec> find(Side side, String name) {
    return of(side).stream().filter(spec -> spec.name().equalsIgnoreCase(name)).findFirst();
  }

  /**
   * The method that a configuration names.
   *
   * @throws UserException when a name is unknown, an option unknown or out of range, or both losses
   *     are "none"; names the key of the configuration
   */
  public static Method create(MethodConfig config) {
    Optional<LossSpec> forget = spec(Side.FORGET, config.forget(), config.forgetOptions());
    Optional<LossSpec> retain = spec(Side.RETAIN, config.retain(), config.retainOptions());
    if (forget.isEmpty() && retain.isEmpty()) {
      throw new UserException(
          "method.forget and method.retain are both none; name a loss for at least one of them");
    }
    if (forget.filter(LossSpec::whole).isPresent() && retain.isPresent()) {
      throw new UserException(
          "method.retain is "
              + config.retain()
              + ", but "
              + forget.get().name()
              + " is a complete objective with terms of its own for what is retained; set"
              + " method.retain=none");
    }
    List<Weighted> losses = new ArrayList<>();
    losses.addAll(losses(forget, config.forgetOptions(), config.forgetCoefficient()));
    losses.addAll(losses(retain, config.retainOptions(), config.retainCoefficient()));
    String name =
        forget.map(LossSpec::name).orElse(NONE) + retain.map(spec -> "+" + spec.name()).orElse("");
    return new Method(name, losses);
  }

  /** The objective of fine-tuning: GD alone, on sequences of role RETAIN. */
  public static Method fineTuning() {
    return create(MethodConfig.of(NONE + "+GD"));
  }

  private static List<String> names(Side side) {
    return of(side).stream().map(LossSpec::name).toList();
  }

  private static Optional<LossSpec> spec(Side side, String name, Map<String, Setting> options) {
    if (name.equalsIgnoreCase(NONE)) {
      if (!options.isEmpty()) {
        Map.Entry<String, Setting> first = options.entrySet().iterator().next();
        throw new UserException(
            first.getValue().place()
                + side.key()
                + "_options."
                + first.getKey()
                + " is given, but "
                + side.key()
                + " is none; remove the key, or name a loss");
      }
      return Optional.empty();
    }
    Optional<LossSpec> found = find(side, name);
    if (found.isPresent()) {
      return found;
    }
    List<String> valid = new ArrayList<>(names(side));
    valid.add(NONE);
    throw new UserException(
        side.key()
            + ": there is no loss \""
            + name
            + "\"; did you mean "
            + Names.nearest(name, valid)
            + "? Valid are "
            + String.join(", ", valid));
  }

  private static List<Weighted> losses(
      Optional<LossSpec> spec, Map<String, Setting> options, OptionalDouble given) {
    if (spec.isEmpty()) {
      return List.of();
    }
    double coefficient = given.orElse(spec.get().coefficient());
    if (!(coefficient >= 0 && Double.isFinite(coefficient))) {
      throw new UserException(
          spec.get().side().key()
              + "_coefficient is "
              + coefficient
              + "; give a number that is not negative");
    }
    return spec.get().losses(options).stream().map(part -> part.times(coefficient)).toList();
  }
}
