package org.lethe.train;

import java.util.ArrayList;
import java.util.EnumMap;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import org.lethe.data.TokenSequence;
import org.lethe.method.Method;
import org.lethe.method.Positions;
import org.lethe.method.ReferenceUse;
import org.lethe.method.Role;
import org.lethe.method.RowKind;
import org.lethe.method.RowStatistics;
import org.lethe.method.Sequence;
import org.lethe.method.Use;
import org.lethe.model.HeadRows;
import org.lethe.model.PackedBatch;

/**
 * A piece of a step, laid out for the model: its sequences end to end, then those of them again
 * that the reference model must see, and the head rows that the method's losses look at.
 */
final class MicroBatch {
  private final PackedBatch packed;
  private final HeadRows headRows;
  private final List<Placed> placed;

  /** A sequence, its rows, and the rows of its reference twin (none: -1). */
  private record Placed(
      StepSequence sequence, int firstRow, int rows, int firstReferenceRow, double cachedNll) {}

  private MicroBatch(PackedBatch packed, HeadRows headRows, List<Placed> placed) {
    this.packed = packed;
    this.headRows = headRows;
    this.placed = placed;
  }

  /** What the layout of a step needs to know besides its sequences. */
  static final class Layout {
    private final Map<Role, Use> uses = new EnumMap<>(Role.class);
    private final ReferenceNll cache;

    /**
     * Which rows and reference twins each role needs.
     *
     * @param cache the reference's sequence nll; null: the reference runs in the same batch
     */
    Layout(Method method, ReferenceNll cache) {
      for (Use use : method.uses()) {
        uses.put(use.role(), use);
      }
      this.cache = cache;
    }

    /** Tokens of a sequence, with its reference twin. */
    int tokens(StepSequence sequence) {
      int length = sequence.tokens().ids().length;
      return needsTwin(uses.get(sequence.role())) ? 2 * length : length;
    }

    /** How many head rows a sequence has. */
    int rows(StepSequence sequence) {
      Use use = uses.get(sequence.role());
      return sequence.tokens().ids().length - 1 - firstSource(use, sequence.tokens());
    }

    boolean needsTwin(Use use) {
      return use.reference() == ReferenceUse.HIDDEN
          || (use.reference() == ReferenceUse.SEQUENCE_NLL && cache == null);
    }
  }

  /** Looks up what the reference model says of a sequence. */
  @FunctionalInterface
  interface ReferenceNll {
    /** The summed nll of the rows that the use looks at. */
    double of(TokenSequence sequence, Positions positions);
  }

  /** The step as counted by the method's reductions, before it is cut. */
  static List<Sequence> outline(List<StepSequence> step, Layout layout) {
    List<Sequence> outline = new ArrayList<>();
    for (StepSequence s : step) {
      outline.add(new Sequence(s.role(), s.pair(), 0, layout.rows(s), Double.NaN));
    }
    return outline;
  }

  /**
   * Cuts a step into pieces of at most {@code budget} tokens. An example and its refusal twin stay
   * together, since losses compare them; such a pair that exceeds the budget is a piece of its own.
   */
  static List<MicroBatch> cut(List<StepSequence> step, Layout layout, int budget) {
    List<MicroBatch> pieces = new ArrayList<>();
    List<StepSequence> piece = new ArrayList<>();
    int tokens = 0;
    for (List<StepSequence> group : groups(step)) {
      int size = group.stream().mapToInt(layout::tokens).sum();
      if (!piece.isEmpty() && tokens + size > budget) {
        pieces.add(lay(piece, layout));
        piece = new ArrayList<>();
        tokens = 0;
      }
      piece.addAll(group);
      tokens += size;
    }
    if (!piece.isEmpty()) {
      pieces.add(lay(piece, layout));
    }
    return pieces;
  }

  /** The tokens of the largest piece that {@link #cut} makes. */
  static int largest(List<StepSequence> step, Layout layout, int budget) {
    int largest = 0;
    int total = 0;
    for (List<StepSequence> group : groups(step)) {
      int size = group.stream().mapToInt(layout::tokens).sum();
      largest = Math.max(largest, size);
      total += size;
    }
    return Math.max(largest, Math.min(total, budget));
  }

  PackedBatch packed() {
    return packed;
  }

  HeadRows headRows() {
    return headRows;
  }

  /** The method's view of the piece, given the statistics of all its rows. */
  List<Sequence> sequences(RowStatistics statistics) {
    List<Sequence> sequences = new ArrayList<>();
    for (Placed p : placed) {
      double referenceNll = p.cachedNll();
      StepSequence s = p.sequence();
      if (p.firstReferenceRow() >= 0) {
        Sequence twin =
            new Sequence(s.role(), s.pair(), p.firstReferenceRow(), p.rows(), Double.NaN);
        referenceNll = statistics.nll(twin);
      }
      sequences.add(new Sequence(s.role(), s.pair(), p.firstRow(), p.rows(), referenceNll));
    }
    return sequences;
  }

  /** The first position whose prediction a use looks at. */
  private static int firstSource(Use use, TokenSequence tokens) {
    return use.positions() == Positions.ANSWER ? tokens.answerStart() - 1 : 0;
  }

  private static List<List<StepSequence>> groups(List<StepSequence> step) {
    Map<String, List<StepSequence>> groups = new LinkedHashMap<>();
    for (StepSequence s : step) {
      groups.computeIfAbsent(s.forgets() + "/" + s.pair(), k -> new ArrayList<>()).add(s);
    }
    return List.copyOf(groups.values());
  }

  private static MicroBatch lay(List<StepSequence> piece, Layout layout) {
    List<int[]> ids = new ArrayList<>();
    HeadRows.Builder rows = new HeadRows.Builder();
    int[] firstRows = new int[piece.size()];
    int start = 0;
    for (int i = 0; i < piece.size(); i++) {
      StepSequence s = piece.get(i);
      Use use = layout.uses.get(s.role());
      firstRows[i] = addRows(rows, s.tokens(), use, start, use.kind());
      ids.add(s.tokens().ids());
      start += s.tokens().ids().length;
    }
    rows.endTrained();
    int trainedTokens = start;
    List<Placed> placed = new ArrayList<>();
    for (int i = 0; i < piece.size(); i++) {
      StepSequence s = piece.get(i);
      Use use = layout.uses.get(s.role());
      int count = layout.rows(s);
      int twinRow = -1;
      double cached = Double.NaN;
      if (use.reference() == ReferenceUse.SEQUENCE_NLL && layout.cache != null) {
        cached = layout.cache.of(s.tokens(), use.positions());
      } else if (use.reference() == ReferenceUse.SEQUENCE_NLL) {
        twinRow = addRows(rows, s.tokens(), use, start, RowKind.STATISTICS);
      } else if (use.reference() == ReferenceUse.HIDDEN) {
        for (int r = 0; r < count; r++) {
          rows.reference(firstRows[i] + r, rows.source(start + firstSource(use, s.tokens()) + r));
        }
      }
      if (layout.needsTwin(use)) {
        ids.add(s.tokens().ids());
        start += s.tokens().ids().length;
      }
      placed.add(new Placed(s, firstRows[i], count, twinRow, cached));
    }
    return new MicroBatch(PackedBatch.of(ids, piece.size()), rows.build(trainedTokens), placed);
  }

  /** Adds a sequence's rows, which stand at {@code start} in the batch; returns the first. */
  private static int addRows(
      HeadRows.Builder rows, TokenSequence tokens, Use use, int start, RowKind kind) {
    int first = -1;
    for (int t = firstSource(use, tokens); t < tokens.ids().length - 1; t++) {
      int row = rows.row(rows.source(start + t), tokens.ids()[t + 1], kind.code(), -1);
      first = first < 0 ? row : first;
    }
    return Math.max(first, 0);
  }
}
