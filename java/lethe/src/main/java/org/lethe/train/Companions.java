package org.lethe.train;

import java.util.List;
import java.util.Map;
import org.lethe.data.Example;
import org.lethe.data.TokenSequence;

/**
 * What forget rows may be given besides their own answers.
 *
 * @param refusals lines that refuse to answer; may be empty
 * @param mismatches answers of others, of which a forget question gets some that are not its own;
 *     empty: those of the retain rows
 * @param mismatchesPerRow how many of them, at least 1
 * @param marked forget rows whose sensitive tokens were found by a model; for any other row they
 *     are the passages it names
 */
public record Companions(
    List<String> refusals,
    List<String> mismatches,
    int mismatchesPerRow,
    Map<Example, TokenSequence> marked) {
  public Companions {
    refusals = List.copyOf(refusals);
    mismatches = List.copyOf(mismatches);
    marked = Map.copyOf(marked);
    if (mismatchesPerRow < 1) {
      throw new IllegalArgumentException(mismatchesPerRow + " mismatches a row; at least 1");
    }
  }

  /** Refusals, one answer of a retain row, and the passages that rows name. */
  public static Companions of(List<String> refusals) {
    return new Companions(refusals, List.of(), 1, Map.of());
  }
}
