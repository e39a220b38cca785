package org.lethe.model;

import java.util.Arrays;
import java.util.List;
import org.lethe.InternalFaultException;
import org.lethe.kernels.AttentionShape;

/**
 * Sequences laid end to end, without padding. Sequences whose gradient is wanted come first;
 * reference sequences, which see the base model only, come last, so that "adapted" and "needs a
 * gradient" are the same prefix. A sequence may leave out first tokens that it shares with another
 * one ({@link Packer}): what is said of a sequence here is said of the tokens that it brings.
 *
 * @param ids token ids of all sequences, [T]
 * @param positions position of each token in its own sequence, [T]
 * @param starts first token of each sequence, [S + 1]; the last entry is T
 * @param parents the tokens that come before a sequence's own: the first, and how many, [2 S];
 *     empty where every sequence brings all of its tokens
 * @param trainedSequences how many sequences of the front take part in the backward pass
 * @param silent indices of sequences, ascending, whose tokens neither see nor are seen: their
 *     attention output is 0, as flash-attention leaves it at padding
 * @param rowKeys the counter of each trained token's dropout mask, [trained tokens]; empty: no
 *     dropout, as in evaluation
 */
public record PackedBatch(
    int[] ids,
    int[] positions,
    int[] starts,
    int[] parents,
    int trainedSequences,
    int[] silent,
    long[] rowKeys) {

  /** A batch whose sequences all have attention, without dropout. */
  public PackedBatch(int[] ids, int[] positions, int[] starts, int trainedSequences) {
    this(ids, positions, starts, new int[0], trainedSequences, new int[0], new long[0]);
  }

  /**
   * Packs sequences.
   *
   * @param sequences token ids of each sequence, trained ones first; none empty
   */
  public static PackedBatch of(List<int[]> sequences, int trainedSequences) {
    Packer packer = new Packer();
    sequences.forEach(packer::add);
    return packer.build(trainedSequences);
  }

  /**
   * The same with tokens at other places of their sequences.
   *
   * @param places of each sequence's tokens, ascending
   */
  public PackedBatch at(List<int[]> places) {
    int[] all = places.stream().flatMapToInt(Arrays::stream).toArray();
    if (all.length != ids.length) {
      throw new InternalFaultException(all.length + " positions of " + ids.length + " tokens");
    }
    return new PackedBatch(ids, all, starts, parents, trainedSequences, silent, rowKeys);
  }

  /** The same with these sequences, ascending, out of attention. */
  public PackedBatch silencing(int... sequences) {
    return new PackedBatch(ids, positions, starts, parents, trainedSequences, sequences, rowKeys);
  }

  /**
   * The same with dropout in the adapters of the trained sequences.
   *
   * @param keys of the trained tokens
   */
  public PackedBatch withRowKeys(long[] keys) {
    if (keys.length != trainedTokens()) {
      throw new InternalFaultException(keys.length + " keys of " + trainedTokens() + " tokens");
    }
    return new PackedBatch(ids, positions, starts, parents, trainedSequences, silent, keys);
  }

  /** Whether a sequence's tokens are out of attention. */
  boolean isSilent(int sequence) {
    return Arrays.binarySearch(silent, sequence) >= 0;
  }

  /** How many of the first sequences have attention. */
  int attending(int sequences) {
    return sequences - (int) Arrays.stream(silent).filter(s -> s < sequences).count();
  }

  /** T. */
  public int tokens() {
    return ids.length;
  }

  /** Tokens that sequences left out, since another one brings them. */
  public int sharedTokens() {
    int shared = 0;
    for (int i = 1; i < parents.length; i += 2) {
      shared += parents[i];
    }
    return shared;
  }

  /** Number of sequences. */
  public int sequences() {
    return starts.length - 1;
  }

  /** Tokens of the sequences that take part in the backward pass. */
  public int trainedTokens() {
    return starts[trainedSequences];
  }

  /**
   * The attention's segments: one per sequence that has attention, queries and own keys alike, and
   * what comes before them as parent keys.
   */
  int[] segments() {
    int[] segments = new int[attending(sequences()) * AttentionShape.SEGMENT_FIELDS];
    int at = 0;
    for (int s = 0; s < sequences(); s++) {
      if (!isSilent(s)) {
        int start = starts[s];
        int length = starts[s + 1] - start;
        segments[at] = start;
        segments[at + 1] = length;
        segments[at + 2] = start;
        segments[at + 3] = length;
        if (parents.length > 0) {
          segments[at + 4] = parents[2 * s];
          segments[at + 5] = parents[2 * s + 1];
        }
        at += AttentionShape.SEGMENT_FIELDS;
      }
    }
    return segments;
  }

  /** Positions that the longest sequence reaches. */
  int reach() {
    return Arrays.stream(positions).max().orElse(-1) + 1;
  }
}
