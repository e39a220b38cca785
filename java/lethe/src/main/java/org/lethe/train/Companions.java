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
 * @param unseen rows that the model never saw, of which each forget row gets one in turn
 * @param retainPerForget retain rows that go with a forget row, at least 1
 * @param targets what is learnt in place of a forget row, for methods that make targets
 */
public record Companions(
    List<String> refusals,
    List<String> mismatches,
    int mismatchesPerRow,
    Map<Example, TokenSequence> marked,
    List<Example> unseen,
    int retainPerForget,
    Map<Example, StepSequence> targets) {
  public Companions {
    refusals = List.copyOf(refusals);
    mismatches = List.copyOf(mismatches);
    marked = Map.copyOf(marked);
    unseen = List.copyOf(unseen);
    targets = Map.copyOf(targets);
    if (retainPerForget < 1) {
      throw new IllegalArgumentException(retainPerForget + " retain rows a forget row; at least 1");
    }
    if (mismatchesPerRow < 1) {
      throw new IllegalArgumentException(mismatchesPerRow + " mismatches a row; at least 1");
    }
  }

  /** Nothing that was not seen, one retain row, and no targets. */
  public Companions(
      List<String> refusals,
      List<String> mismatches,
      int mismatchesPerRow,
      Map<Example, TokenSequence> marked) {
    this(refusals, mismatches, mismatchesPerRow, marked, List.of(), 1, Map.of());
  }

  /** Refusals, one answer of a retain row, and the passages that rows name. */
  public static Companions of(List<String> refusals) {
    return new Companions(refusals, List.of(), 1, Map.of());
  }
}
