package org.lethe.config;

import java.nio.file.Path;

/** A frozen adapter that a run starts from. */
public record AdapterSection(
    @Doc("Adapter directory in PEFT's layout") Path path,
    @Doc("What the adapter is multiplied by: 1 adds what it learnt, -1 takes it away")
        @Default("1.0")
        double coefficient) {

  public AdapterSection {
    if (!Double.isFinite(coefficient)) {
      throw new IllegalArgumentException(
          "coefficient must be a finite number, but is " + coefficient);
    }
  }
}
