package org.lethe.method;

import java.util.List;

/** Objectives that are only looked at: their statistics become targets of others. */
public final class Targets {
  private Targets() {}

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
