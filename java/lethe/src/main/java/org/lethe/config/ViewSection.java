package org.lethe.config;

import java.nio.file.Path;

/**
 * Another model on the same weights, which a method compares with: what a run starts from, and an
 * adapter.
 */
public record ViewSection(
    @Doc("Name by which a method asks for it, such as forget, new or reinforced") String name,
    @Doc("Adapter directory in PEFT's layout") Path path,
    @Doc("What the adapter is multiplied by") @Default("1.0") double coefficient) {

  public ViewSection {
    if (!name.matches("[a-z][a-z0-9_]*")) {
      throw new IllegalArgumentException(
          "name '" + name + "' must be small letters, digits and '_'");
    }
    if (!Double.isFinite(coefficient)) {
      throw new IllegalArgumentException(
          "coefficient must be a finite number, but is " + coefficient);
    }
  }
}
