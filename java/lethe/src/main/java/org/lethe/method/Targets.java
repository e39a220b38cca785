package org.lethe.method;

import java.util.List;
import java.util.Optional;

/** Objectives that are only looked at: their statistics become targets of others. */
public final class Targets {
  private Targets() {}

  /**
   * How "Who's Harry Potter" is configured.
   *
   * @param translated whether the base reads the counterpart
   * @param hard whether labels must be made
   */
  public record Generic(double alpha, boolean translated, boolean hard) {}

  /** That configuration; empty when the forget loss is another. */
  public static Optional<Generic> generic(MethodConfig config) {
    LossSpec spec = WhosHarryPotter.SPEC;
    if (!config.forget().equalsIgnoreCase(spec.name())) {
      return Optional.empty();
    }
    Options o =
        Options.of(
            spec.side().key() + "_options", spec.name(), spec.options(), config.forgetOptions());
    return Optional.of(
        new Generic(
            o.number("alpha"),
            o.choice("baseline", WhosHarryPotter.Baseline.class)
                == WhosHarryPotter.Baseline.TRANSLATED,
            o.choice("targets", WhosHarryPotter.Targets.class) == WhosHarryPotter.Targets.HARD));
  }

  /** Whether the forget loss is Quark's, whose texts the model samples itself. */
  public static boolean sampled(MethodConfig config) {
    return config.forget().equalsIgnoreCase(Quark.SPEC.name());
  }

  /**
   * Rows whose reference is the mixture of "Who's Harry Potter", without a gradient.
   *
   * @param translated whether the base reads the counterpart
   */
  public static Method mixture(Positions positions, double alpha, boolean translated) {
    Use use = WhosHarryPotter.mixed(positions, alpha, translated, Use.BASE);
    return new Method(
        "WHP targets",
        List.of(new Weighted(1, Rowwise.divergence("WHP", use, Reduction.TOKEN_MEAN))));
  }
}
