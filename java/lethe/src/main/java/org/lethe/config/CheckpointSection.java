package org.lethe.config;

/** What lets a run that was stopped go on: {@code lethe resume}. */
public record CheckpointSection(
    @Doc("How often a checkpoint is written: never, N steps, N epochs, N minutes")
        @Default("10 minutes")
        @Written("never, N steps, N epochs or N minutes")
        String every,
    @Doc("How many are kept; older ones are deleted") @Default("2") int keep) {

  public CheckpointSection {
    Check.atLeast("keep", 1, keep);
  }
}
