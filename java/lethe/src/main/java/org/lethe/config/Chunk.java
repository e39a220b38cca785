package org.lethe.config;

import java.util.List;
import java.util.regex.Matcher;
import java.util.regex.Pattern;

/**
 * One of several consecutive parts of a list, written {@code 2/4}: the second of four. Sizes differ
 * by at most one, the larger ones first, and together the parts are the whole list, in order.
 *
 * @param index from 1
 * @param count how many there are
 */
public record Chunk(int index, int count) {
  private static final Pattern FORM = Pattern.compile("(\\d{1,6})/(\\d{1,6})");

  public Chunk {
    if (index < 1 || index > count) {
      throw new IllegalArgumentException(
          "chunk " + index + " of " + count + " does not exist; count from 1");
    }
  }

  /** Reads one; refuses what is no chunk by an {@code IllegalArgumentException}. */
  public static Chunk parse(String text) {
    Matcher matcher = FORM.matcher(text.strip());
    if (!matcher.matches()) {
      throw new IllegalArgumentException(
          "forget_chunk is '" + text + "'; write for example 2/4, the second of four chunks");
    }
    return new Chunk(Integer.parseInt(matcher.group(1)), Integer.parseInt(matcher.group(2)));
  }

  /** Its part of a list; empty where there are fewer elements than chunks before it. */
  public <T> List<T> of(List<T> whole) {
    return whole.subList(start(whole.size(), index - 1), start(whole.size(), index));
  }

  private int start(int size, int chunks) {
    return chunks * (size / count) + Math.min(chunks, size % count);
  }

  @Override
  public String toString() {
    return index + "/" + count;
  }
}
