package org.lethe.method;

/**
 * An option's value as it was given.
 *
 * @param where file and line it was written in, for messages; empty when not known
 */
public record Setting(String text, String where) {
  /** One of unknown origin. */
  public static Setting of(Object value) {
    return new Setting(String.valueOf(value), "");
  }

  /** What a message about it begins with. */
  String place() {
    return where.isEmpty() ? "" : where + ": ";
  }
}
