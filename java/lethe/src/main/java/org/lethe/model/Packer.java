package org.lethe.model;

import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.stream.IntStream;
import org.lethe.InternalFaultException;

/**
 * Lays sequences end to end. A sequence whose first tokens are those of one before it may leave
 * them out: its own tokens then see the other's as what came before, and a hidden state there
 * serves both. What is left out of a sequence is never left out of the one that brings it.
 */
public final class Packer {
  private final List<int[]> ids = new ArrayList<>();
  private final List<int[]> positions = new ArrayList<>();
  private final List<Place> places = new ArrayList<>();
  private int tokens;
  private boolean shares;

  /**
   * Where a sequence stands in the batch.
   *
   * @param start its first own token
   * @param parent the first token that it shares
   * @param shared how many; 0: all are its own
   */
  public record Place(int start, int parent, int shared) {
    /** The token of the batch at a place of the sequence. */
    public int token(int t) {
      return t < shared ? parent + t : start + t - shared;
    }
  }

  /** Adds a sequence with all of its tokens. */
  public Place add(int[] sequence) {
    return add(sequence, IntStream.range(0, sequence.length).toArray());
  }

  /** Adds a sequence whose tokens stand at these positions. */
  public Place add(int[] sequence, int[] at) {
    return append(new Place(tokens, 0, 0), sequence, at);
  }

  /**
   * Adds a sequence without its first tokens.
   *
   * @param leader brings them, and shares nothing itself
   * @param shared how many, fewer than the sequence has
   */
  public Place add(int[] sequence, Place leader, int shared) {
    if (leader.shared() > 0 || shared < 1 || shared >= sequence.length) {
      throw new InternalFaultException(
          shared + " of " + sequence.length + " tokens shared with " + leader);
    }
    shares = true;
    return append(
        new Place(tokens, leader.start(), shared),
        Arrays.copyOfRange(sequence, shared, sequence.length),
        IntStream.range(shared, sequence.length).toArray());
  }

  private Place append(Place place, int[] own, int[] at) {
    ids.add(own);
    positions.add(at);
    places.add(place);
    tokens += own.length;
    return place;
  }

  /** Tokens so far. */
  public int tokens() {
    return tokens;
  }

  /** Sequences so far. */
  public int sequences() {
    return places.size();
  }

  /** What was added, of which so many sequences train. */
  public PackedBatch build(int trainedSequences) {
    int[] starts =
        IntStream.concat(places.stream().mapToInt(Place::start), IntStream.of(tokens)).toArray();
    int[] parents =
        shares
            ? places.stream().flatMapToInt(p -> IntStream.of(p.parent(), p.shared())).toArray()
            : new int[0];
    return new PackedBatch(
        joined(ids), joined(positions), starts, parents, trainedSequences, new int[0], new long[0]);
  }

  private int[] joined(List<int[]> parts) {
    int[] all = new int[tokens];
    int next = 0;
    for (int[] part : parts) {
      System.arraycopy(part, 0, all, next, part.length);
      next += part.length;
    }
    return all;
  }
}
