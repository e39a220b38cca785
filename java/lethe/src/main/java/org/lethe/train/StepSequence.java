package org.lethe.train;

import org.lethe.data.Counterpart;
import org.lethe.data.TokenSequence;
import org.lethe.method.Role;

/**
 * A sequence of a step.
 *
 * @param pair index of its example within the step, the same for its twins that carry another
 *     answer
 * @param source where the example comes from, for messages
 * @param counterpart what a reference reads in its place; null where it reads the sequence itself
 * @param labels of each row, in place of the tokens that follow; null: those
 */
// The labels are read by index, as the token ids beside them.
@SuppressWarnings("ArrayRecordComponent")
public record StepSequence(
    Role role,
    int pair,
    TokenSequence tokens,
    String source,
    Counterpart counterpart,
    int[] labels) {

  /** A sequence that references read, too, and whose labels are its own tokens. */
  public StepSequence(Role role, int pair, TokenSequence tokens, String source) {
    this(role, pair, tokens, source, null, null);
  }

  /** The same beside another text. */
  public StepSequence with(Counterpart other) {
    return new StepSequence(role, pair, tokens, source, other, labels);
  }

  /** The same with labels that were made for it. */
  public StepSequence withLabels(int[] made) {
    return new StepSequence(role, pair, tokens, source, counterpart, made);
  }

  /** Whether it belongs to the forget side of the step. */
  boolean forgets() {
    return role.forgets();
  }
}
