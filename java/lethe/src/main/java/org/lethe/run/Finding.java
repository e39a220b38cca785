package org.lethe.run;

/**
 * One thing that a check before a run has to say.
 *
 * @param key the part of the configuration it concerns, such as {@code data.forget}
 * @param message what, where and what to do
 */
public record Finding(Level level, String key, String message) {
  /** How much it matters. */
  public enum Level {
    /** The run would fail. */
    ERROR,
    /** The run would do something that is probably not meant. */
    WARNING,
    /** Worth knowing. */
    NOTE
  }
}
