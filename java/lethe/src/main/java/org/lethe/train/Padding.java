package org.lethe.train;

import java.util.stream.IntStream;
import org.lethe.UserException;
import org.lethe.data.TokenSequence;
import org.lethe.method.Positions;

/**
 * Rows padded to one length, as published code computes them under flash-attention-2: what the
 * attention mask leaves out neither sees nor is seen, its attention output is 0, and everything
 * keeps its place in the padded row. Such a position has the same hidden state wherever it stands,
 * so one stands for all.
 *
 * <p>Padding counts in {@link Positions#ALL} (length − 1 rows) and {@link Positions#EVERY} (length
 * rows); other positions look at a row's own tokens.
 *
 * @param kind whose
 * @param length of a padded row; 0: the longest row of its role in the micro-batch
 * @param token that pads
 */
public record Padding(Kind kind, int length, int token) {
  /** Rows without padding. */
  public static final Padding NONE = new Padding(Kind.NONE, 0, -1);

  /** Whose padding. */
  public enum Kind {
    /** There is none. */
    NONE,
    /**
     * closer-look (sail-sg/closer-look-LLM-unlearning, {@code dataset/data_module.py}): rows of a
     * fixed length, padded from the end token on; labels of what is padded are the padding.
     */
    CLOSER_LOOK,
    /**
     * open-unlearning (locuslab/open-unlearning, {@code data/collators.py}): rows as long as the
     * longest; whatever equals the padding token is left out of attention, end tokens inside a
     * prompt, too; tokens without a label have the label −100, which a target that is indexed by it
     * takes from the vocabulary's end.
     */
    OPEN_UNLEARNING
  }

  private static final int IGNORED = -100;

  public Padding {
    if (kind == Kind.CLOSER_LOOK && length < 2) {
      throw new UserException(
          "parity.padded_length is "
              + length
              + "; parity.padding=closer_look pads to a fixed length: give it, such as 500 (TOFU)"
              + " or 300 (real people)");
    }
  }

  boolean isNone() {
    return kind == Kind.NONE;
  }

  /** Whether tokens inside a row may be left out of attention. */
  boolean masksInside() {
    return kind == Kind.OPEN_UNLEARNING;
  }

  /** Indices of the tokens of a row that have attention, ascending. */
  int[] attending(TokenSequence tokens) {
    int[] ids = tokens.ids();
    if (masksInside()) {
      return IntStream.range(0, ids.length).filter(t -> ids[t] != token).toArray();
    }
    boolean padded = !isNone() && ids[ids.length - 1] == token;
    return IntStream.range(0, padded ? ids.length - 1 : ids.length).toArray();
  }

  /** The rows of a sequence that positions look at, as indices of its padded row. */
  int[] rows(Positions positions, TokenSequence tokens, int padded) {
    boolean whole = positions == Positions.ALL || positions == Positions.EVERY;
    if (isNone() || !whole) {
      return Rows.of(positions, tokens);
    }
    if (tokens.ids().length > padded) {
      throw new UserException(
          "a row has "
              + tokens.ids().length
              + " tokens and is to be padded to "
              + padded
              + "; raise parity.padded_length, or cut rows by data.context_length="
              + padded);
    }
    return IntStream.range(0, positions == Positions.ALL ? padded - 1 : padded).toArray();
  }

  /**
   * The label of a row.
   *
   * @param at index in the padded row
   * @param indexed whether a label changes a target, so that one of −100 counts
   */
  int label(TokenSequence tokens, int at, boolean indexed, int vocabulary) {
    boolean own = at + 1 < tokens.ids().length;
    if (isNone()) {
      return Rows.label(tokens, at);
    }
    if (kind == Kind.OPEN_UNLEARNING && indexed && (!own || at + 1 < tokens.answerStart())) {
      return vocabulary + IGNORED;
    }
    return own ? tokens.ids()[at + 1] : token;
  }
}
