package org.lethe.method;

/**
 * Where in a run a step stands.
 *
 * @param step from 0
 * @param stepsPerEpoch at least 1
 */
public record StepPlace(int step, int stepsPerEpoch) {
  /** The epoch that the step belongs to, from 0. */
  public int epoch() {
    return step / stepsPerEpoch;
  }
}
