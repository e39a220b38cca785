package org.lethe.data;

import java.util.Arrays;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import org.lethe.UserException;

/**
 * Another text that a reference model reads in a sequence's place, and which of its rows stand for
 * the sequence's.
 *
 * @param ids token ids, none empty
 * @param rows for each token of the sequence the token of {@code ids} after which the same thing
 *     follows; {@link #NONE} where nothing there corresponds, and the row takes no part
 */
// Read by index, as the token ids beside them.
@SuppressWarnings("ArrayRecordComponent")
public record Counterpart(int[] ids, int[] rows) {
  /** No row of the other text corresponds. */
  public static final int NONE = -1;

  public Counterpart {
    for (int row : rows) {
      if (row < NONE || row >= ids.length) {
        throw new IllegalArgumentException(
            "row " + row + " outside the " + ids.length + " of the other text");
      }
    }
  }

  /** The same text without the token at {@code index}, which the reference is not to see. */
  public static Counterpart without(int[] ids, int index) {
    int[] others = new int[ids.length - 1];
    int[] rows = new int[ids.length];
    for (int t = 0; t < ids.length; t++) {
      if (t != index) {
        others[t < index ? t : t - 1] = ids[t];
      }
      rows[t] = t < index ? t : Math.max(t - 1, 0);
    }
    return new Counterpart(others, rows);
  }

  /**
   * The translated text of a sequence. A row takes part where both texts have a token's border: at
   * the same place of what was not replaced, and at both ends of what was. A row that predicts an
   * anchor that stood in the text before takes no part (the first consistency rule of "Who's Harry
   * Potter": what was introduced would otherwise be expected again); its second, to lower the
   * logits of translations already seen, is not offered.
   *
   * @param ids the sequence's
   * @param translated those of its translation
   * @param where the row's source, for messages
   * @throws UserException when the second is not the translation of the first
   */
  public static Counterpart translated(
      Tokenizer tokenizer, AnchorDictionary anchors, int[] ids, int[] translated, String where) {
    List<String> pieces = tokenizer.pieces(ids);
    List<String> generic = tokenizer.pieces(translated);
    AnchorDictionary.Translation translation = anchors.translate(String.join("", pieces));
    if (!translation.text().equals(String.join("", generic))) {
      throw new UserException(
          where
              + ": its translation does not read as the dictionary has it; anchors must not cross"
              + " the border of question and answer, nor stand in the chat template");
    }
    Map<Integer, Integer> borders = new HashMap<>();
    int end = 0;
    for (int t = 0; t < generic.size(); t++) {
      end += generic.get(t).length();
      // Of tokens without text of their own the last one stands at the border.
      borders.put(end, t);
    }
    int[] rows = new int[ids.length];
    Arrays.fill(rows, NONE);
    int at = 0;
    for (int t = 0; t < rows.length; t++) {
      at += pieces.get(t).length();
      String next = t + 1 == rows.length ? "" : pieces.get(t + 1);
      // Where a character is spread over tokens, all but the last are empty: no border.
      boolean border = t + 1 == rows.length || !next.isEmpty();
      if (border && !predictsKnown(translation.replaced(), at, at + next.length())) {
        rows[t] = borders.getOrDefault(position(translation.replaced(), at), NONE);
      }
    }
    return new Counterpart(translated, rows);
  }

  /** Whether the characters from {@code from} to {@code to} touch an anchor that stood before. */
  private static boolean predictsKnown(List<AnchorDictionary.Replaced> replaced, int from, int to) {
    return replaced.stream().anyMatch(r -> r.repeated() && from < r.end() && to > r.start());
  }

  /** Where a border of the text lies in the translation; below 0 inside what was replaced. */
  private static int position(List<AnchorDictionary.Replaced> replaced, int border) {
    int shift = 0;
    for (AnchorDictionary.Replaced r : replaced) {
      if (border <= r.start()) {
        break;
      }
      if (border < r.end()) {
        return -1;
      }
      shift = r.genericEnd() - r.end();
    }
    return border + shift;
  }

  @Override
  public boolean equals(Object other) {
    return other instanceof Counterpart c
        && Arrays.equals(ids, c.ids)
        && Arrays.equals(rows, c.rows);
  }

  @Override
  public int hashCode() {
    return 31 * Arrays.hashCode(ids) + Arrays.hashCode(rows);
  }

  @Override
  public String toString() {
    return "Counterpart[ids=" + Arrays.toString(ids) + ", rows=" + Arrays.toString(rows) + "]";
  }
}
