package org.lethe.train;

import org.lethe.data.TokenSequence;
import org.lethe.method.Role;

/**
 * A sequence of a step.
 *
 * @param pair index of its example within the step, the same for its twins that carry another
 *     answer
 * @param source where the example comes from, for messages
 */
public record StepSequence(Role role, int pair, TokenSequence tokens, String source) {

  /** Whether it belongs to the forget side of the step. */
  boolean forgets() {
    return role.forgets();
  }
}
