package org.lethe.config;

import java.util.Optional;

/**
 * One phase of {@code lethe run}. What a phase does not say is as the sections of the same names
 * outside it say. In a file an entry of {@code phases} may also be a group, {@code {repeat: N,
 * phases: [...]}}, which stands for its phases N times over, or {@code {chunks: N, phases: [...]}},
 * which stands for its phases on each of N consecutive chunks of the forget rows, one after the
 * other ({@code data.forget_chunk}), as in the sequential unlearning of Jang et al.
 */
public record PhaseSection(
    @Doc("finetune, unlearn or evaluate") Task task,
    @Doc("Name of the phase's directory, after its number; unset: the task's name")
        Optional<String> name,
    @Doc(
            "What a phase after an adapter compares with: fixed (the first base; the adapter trains"
                + " on) or moving (the adapter is merged into the base, and a fresh one trains)")
        @Default("fixed")
        Base reference,
    @Doc(
            "Makes the adapter of the phases before, times this, part of the base: -0.3 takes away"
                + " that much of what it learnt, and a fresh adapter trains; unset: as reference"
                + " says")
        Optional<Double> adapterCoefficient,
    @Doc("As outside, for this phase alone") DataConfig data,
    @Doc("As outside, for this phase alone") MethodSection method,
    @Doc("As outside, for this phase alone") TrainConfig train,
    @Doc("As outside, for this phase alone") LoraSection lora,
    @Doc("As outside, for this phase alone") EvaluateSection evaluate) {

  /** What a phase does. */
  public enum Task {
    FINETUNE,
    UNLEARN,
    EVALUATE
  }

  /** The reference model of a later phase. */
  public enum Base {
    FIXED,
    MOVING
  }

  public PhaseSection {
    adapterCoefficient.ifPresent(
        c -> {
          if (!Double.isFinite(c)) {
            throw new IllegalArgumentException(
                "adapter_coefficient must be a finite number, but is " + c);
          }
        });
    name.ifPresent(
        n -> {
          if (!n.matches("[A-Za-z0-9][A-Za-z0-9_.-]*")) {
            throw new IllegalArgumentException(
                "name '" + n + "' must be letters, digits, '_', '.' and '-'");
          }
        });
  }
}
