package org.lethe.train;

import java.util.List;

/** The tokens of a piece of a step, in all passes, as groups of sequences join it. */
final class PieceSize {
  /** About what a few small objects take, in numbers of four bytes. */
  private static final long OBJECT = 32;

  private final MicroBatch.Layout layout;
  private final Prefixes.Plan trained;
  private final Prefixes.Plan twins;
  private int tokens;

  /**
   * What is cut as one: an example and its twins with other answers.
   *
   * @param tokens in all passes, none of them shared
   * @param trained as those see them that share prefixes; empty where nothing is shared
   * @param twins the same of the reference's pass
   */
  record Group(
      List<StepSequence> sequences,
      int tokens,
      List<Prefixes.Text> trained,
      List<Prefixes.Text> twins) {
    static Group of(List<StepSequence> sequences, MicroBatch.Layout layout) {
      boolean shares = !layout.prefixes().isNone();
      return new Group(
          sequences,
          layout.tokens(sequences),
          shares ? layout.texts(sequences, layout::trains) : List.of(),
          shares ? layout.texts(sequences, layout::needsTwin) : List.of());
    }

    /** The same as far as its size goes. */
    Group withoutSequences() {
      return new Group(List.of(), tokens, trained, twins);
    }

    /** What that holds of memory, in numbers of four bytes. */
    long numbers() {
      // A twin is the text that trains.
      return OBJECT
          + (trained.size() + twins.size()) * OBJECT
          + Math.max(length(trained), length(twins));
    }

    private static long length(List<Prefixes.Text> texts) {
      return texts.stream().mapToLong(text -> text.ids().length).sum();
    }
  }

  /** Of a piece without sequences. */
  PieceSize(MicroBatch.Layout layout) {
    this.layout = layout;
    this.trained = layout.prefixes().plan();
    this.twins = layout.prefixes().plan();
    this.tokens = layout.padTokens();
  }

  /** Adds a group; returns what it is then. */
  int add(Group group) {
    tokens += group.tokens();
    if (!layout.prefixes().isNone()) {
      tokens -= trained.add(group.trained());
      tokens -= twins.add(group.twins());
    }
    return tokens;
  }
}
