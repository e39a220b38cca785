package org.lethe.config;

/**
 * A value below a key whose entries others than the configuration know: kept as it was written, so
 * that whoever knows them can check it and say where it stands.
 *
 * @param text without quotes
 * @param where {@code file:line}, or the override it comes from; no part of the value
 */
public record OptionValue(String text, String where) {
  @Override
  public boolean equals(Object other) {
    return other instanceof OptionValue value && text.equals(value.text);
  }

  @Override
  public int hashCode() {
    return text.hashCode();
  }
}
