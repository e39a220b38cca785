package org.lethe.method;

/** Which of the two lists of a configuration a loss stands in. */
public enum Side {
  /** Named by {@code method.forget}. */
  FORGET,
  /** Named by {@code method.retain}. */
  RETAIN;

  /** The key that names a loss of this side. */
  public String key() {
    return this == FORGET ? "method.forget" : "method.retain";
  }
}
