package org.lethe.model;

import java.util.List;

/**
 * Sequences laid end to end, without padding. Sequences whose gradient is wanted come first;
 * reference sequences, which see the base model only, come last, so that "adapted" and "needs a
 * gradient" are the same prefix.
 *
 * @param ids token ids of all sequences, [T]
 * @param positions position of each token in its own sequence, [T]
 * @param starts first token of each sequence, [S + 1]; the last entry is T
 * @param trainedSequences how many sequences of the front take part in the backward pass
 */
public record PackedBatch(int[] ids, int[] positions, int[] starts, int trainedSequences) {

  /**
   * Packs sequences.
   *
   * @param sequences token ids of each sequence, trained ones first; none empty
   */
  public static PackedBatch of(List<int[]> sequences, int trainedSequences) {
    int tokens = sequences.stream().mapToInt(s -> s.length).sum();
    int[] ids = new int[tokens];
    int[] positions = new int[tokens];
    int[] starts = new int[sequences.size() + 1];
    int next = 0;
    for (int s = 0; s < sequences.size(); s++) {
      starts[s] = next;
      for (int t = 0; t < sequences.get(s).length; t++, next++) {
        ids[next] = sequences.get(s)[t];
        positions[next] = t;
      }
    }
    starts[sequences.size()] = next;
    return new PackedBatch(ids, positions, starts, trainedSequences);
  }

  /** T. */
  public int tokens() {
    return ids.length;
  }

  /** Number of sequences. */
  public int sequences() {
    return starts.length - 1;
  }

  /** Tokens of the sequences that take part in the backward pass. */
  public int trainedTokens() {
    return starts[trainedSequences];
  }
}
