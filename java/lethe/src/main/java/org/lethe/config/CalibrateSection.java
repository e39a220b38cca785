package org.lethe.config;

/**
 * How {@code calibrate} chooses how much of an adapter is kept: the least share u of the original
 * model with which a score stays, as "Unlearning with Control" does (arXiv 2406.09179).
 */
public record CalibrateSection(
    @Doc("Score that must stay, as SET.METRIC of an evaluation") @Default("retain.probability")
        String score,
    @Doc("Share of the original model's score that must stay; 0.9 in the published code")
        @Default("0.95")
        double atLeast,
    @Doc("Shares u of the original model that are tried are multiples of this, from 0 to 1")
        @Default("0.05")
        double step) {

  public CalibrateSection {
    Check.positive("at_least", atLeast);
    Check.positive("step", step);
    if (atLeast > 1 || step > 1) {
      throw new IllegalArgumentException(
          "at_least and step must be at most 1, but are " + atLeast + " and " + step);
    }
  }
}
