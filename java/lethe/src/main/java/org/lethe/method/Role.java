package org.lethe.method;

/** Which example a sequence comes from, and which answer it carries. */
public enum Role {
  /** A forget question with its own answer. */
  FORGET,
  /** A retain question with its own answer. */
  RETAIN,
  /** A forget question with a refusal for an answer. */
  FORGET_IDK,
  /** A retain question with a refusal for an answer. */
  RETAIN_IDK
}
