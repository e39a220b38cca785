package org.lethe.method;

/** Which example a sequence comes from, and which answer it carries. */
public enum Role {
  /** A forget question with its own answer. */
  FORGET(true),
  /** A retain question with its own answer. */
  RETAIN(false),
  /** A forget question with a refusal for an answer. */
  FORGET_IDK(true),
  /** A retain question with a refusal for an answer. */
  RETAIN_IDK(false),
  /** A forget question with someone else's answer. */
  FORGET_MISMATCH(true),
  /** A forget question with another plausible answer of its own. */
  FORGET_ALTERNATE(true),
  /** An example that the model was never trained on. */
  NEW(true),
  /** A text that was made for training: translated, or sampled. */
  TARGET(true);

  private final boolean forgets;

  Role(boolean forgets) {
    this.forgets = forgets;
  }

  /** Whether it belongs to the forget side of a step's pairs; else to the retain side. */
  public boolean forgets() {
    return forgets;
  }
}
