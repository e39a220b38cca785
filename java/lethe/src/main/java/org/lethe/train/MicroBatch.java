package org.lethe.train;

import java.util.ArrayList;
import java.util.EnumMap;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import org.lethe.UserException;
import org.lethe.data.TokenSequence;
import org.lethe.method.Method;
import org.lethe.method.Positions;
import org.lethe.method.ReferenceUse;
import org.lethe.method.Role;
import org.lethe.method.RowKind;
import org.lethe.method.RowParameters;
import org.lethe.method.RowStatistics;
import org.lethe.method.Sequence;
import org.lethe.method.Use;
import org.lethe.model.HeadRows;
import org.lethe.model.PackedBatch;

/**
 * A piece of a step, laid out for the model: its sequences end to end, then those of them again
 * that the reference model must see, and the head rows that the method's losses look at. Each use
 * of a role has rows of its own; rows at one token share its hidden state.
 */
final class MicroBatch {
  private final PackedBatch packed;
  private final HeadRows headRows;
  private final List<Placed> placed;

  /** A sequence as one use sees it, its rows, and the rows of its reference twin (none: -1). */
  private record Placed(
      StepSequence sequence,
      Use use,
      int firstRow,
      int rows,
      int firstReferenceRow,
      double cachedNll) {}

  private MicroBatch(PackedBatch packed, HeadRows headRows, List<Placed> placed) {
    this.packed = packed;
    this.headRows = headRows;
    this.placed = placed;
  }

  /** What the layout of a step needs to know besides its sequences. */
  static final class Layout {
    private final Map<Role, List<Use>> uses = new EnumMap<>(Role.class);
    private final ReferenceNll cache;

    /**
     * Which rows and reference twins each role needs.
     *
     * @param cache the reference's sequence nll; null: the reference runs in the same batch
     */
    Layout(Method method, ReferenceNll cache) {
      for (Use use : method.uses()) {
        if (!use.view().equals(Use.BASE)) {
          throw new UserException(
              method.name()
                  + " compares with the view \""
                  + use.view()
                  + "\" of the model, which this training has not; choose another method");
        }
        uses.computeIfAbsent(use.role(), role -> new ArrayList<>()).add(use);
      }
      this.cache = cache;
    }

    /** What looks at a role. */
    List<Use> of(Role role) {
      return uses.getOrDefault(role, List.of());
    }

    /** The most rows that one token of a step may have. */
    int rowsPerToken() {
      return uses.values().stream().mapToInt(List::size).max().orElse(1);
    }

    /** Tokens of a sequence, with its reference twin. */
    int tokens(StepSequence sequence) {
      int length = sequence.tokens().ids().length;
      return needsTwin(sequence.role()) ? 2 * length : length;
    }

    /** How many head rows a sequence has. */
    int rows(StepSequence sequence) {
      return of(sequence.role()).stream()
          .mapToInt(use -> Rows.count(use.positions(), sequence.tokens()))
          .sum();
    }

    private boolean needsTwin(Role role) {
      return of(role).stream().anyMatch(this::needsTwin);
    }

    private boolean needsTwin(Use use) {
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
      for (Use use : layout.of(s.role())) {
        int rows = Rows.count(use.positions(), s.tokens());
        outline.add(new Sequence(use, s.pair(), 0, rows, Double.NaN));
      }
    }
    return outline;
  }

  /**
   * Cuts a step into pieces of at most {@code budget} tokens. An example and its twins with other
   * answers stay together, since losses compare them; such a pair that exceeds the budget is a
   * piece of its own.
   */
  static List<MicroBatch> cut(List<StepSequence> step, Layout layout, int budget) {
    return cut(step, layout, budget, null);
  }

  /**
   * The same with dropout in the adapters.
   *
   * @param keys null: none
   */
  static List<MicroBatch> cut(
      List<StepSequence> step, Layout layout, int budget, DropoutKeys keys) {
    List<MicroBatch> pieces = new ArrayList<>();
    List<StepSequence> piece = new ArrayList<>();
    int tokens = 0;
    for (List<StepSequence> group : groups(step)) {
      int size = group.stream().mapToInt(layout::tokens).sum();
      if (!piece.isEmpty() && tokens + size > budget) {
        pieces.add(new Builder(layout).lay(piece, keys));
        piece = new ArrayList<>();
        tokens = 0;
      }
      piece.addAll(group);
      tokens += size;
    }
    if (!piece.isEmpty()) {
      pieces.add(new Builder(layout).lay(piece, keys));
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
      int pair = p.sequence().pair();
      if (p.firstReferenceRow() >= 0) {
        referenceNll =
            statistics.nll(
                new Sequence(p.use(), pair, p.firstReferenceRow(), p.rows(), Double.NaN));
      }
      sequences.add(new Sequence(p.use(), pair, p.firstRow(), p.rows(), referenceNll));
    }
    return sequences;
  }

  private static List<List<StepSequence>> groups(List<StepSequence> step) {
    Map<String, List<StepSequence>> groups = new LinkedHashMap<>();
    for (StepSequence s : step) {
      groups.computeIfAbsent(s.forgets() + "/" + s.pair(), k -> new ArrayList<>()).add(s);
    }
    return List.copyOf(groups.values());
  }

  /** Lays a piece out. */
  private static final class Builder {
    private final Layout layout;
    private final List<int[]> ids = new ArrayList<>();
    private final HeadRows.Builder rows = new HeadRows.Builder();
    private final Map<Integer, Integer> sources = new LinkedHashMap<>();
    private int start;

    Builder(Layout layout) {
      this.layout = layout;
    }

    MicroBatch lay(List<StepSequence> piece, DropoutKeys keys) {
      List<List<Integer>> firstRows = new ArrayList<>();
      for (StepSequence s : piece) {
        List<Integer> ofUses = new ArrayList<>();
        for (Use use : layout.of(s.role())) {
          ofUses.add(add(s.tokens(), use, use.kind()));
        }
        firstRows.add(ofUses);
        append(s);
      }
      rows.endTrained();
      int trainedTokens = start;
      List<Placed> placed = new ArrayList<>();
      for (int i = 0; i < piece.size(); i++) {
        StepSequence s = piece.get(i);
        List<Use> uses = layout.of(s.role());
        for (int u = 0; u < uses.size(); u++) {
          placed.add(withReference(s, uses.get(u), firstRows.get(i).get(u)));
        }
        if (layout.needsTwin(s.role())) {
          append(s);
        }
      }
      PackedBatch batch = PackedBatch.of(ids, piece.size());
      return new MicroBatch(
          keys == null ? batch : batch.withRowKeys(keys.of(piece)),
          rows.build(trainedTokens),
          placed);
    }

    private void append(StepSequence s) {
      ids.add(s.tokens().ids());
      start += s.tokens().ids().length;
    }

    /** Adds the rows of a sequence that stands next in the batch; returns the first. */
    private int add(TokenSequence tokens, Use use, RowKind kind) {
      int first = -1;
      for (int t : Rows.of(use.positions(), tokens)) {
        int row = rows.row(source(t), Rows.label(tokens, t), kind.code(), -1);
        RowParameters p = use.parameters();
        rows.parameters(row, p.temperature(), p.labelShift(), p.mix(), p.epsilon());
        first = first < 0 ? row : first;
      }
      return Math.max(first, 0);
    }

    /** The source at a token of the sequence that stands next, one for all rows there. */
    private int source(int t) {
      return sources.computeIfAbsent(start + t, rows::source);
    }

    /** Refers a use's rows to the reference twin, which stands next where there is one. */
    private Placed withReference(StepSequence s, Use use, int firstRow) {
      int[] at = Rows.of(use.positions(), s.tokens());
      int twinRow = -1;
      double cached = Double.NaN;
      if (use.reference() == ReferenceUse.SEQUENCE_NLL && layout.cache != null) {
        cached = layout.cache.of(s.tokens(), use.positions());
      } else if (use.reference() == ReferenceUse.SEQUENCE_NLL) {
        twinRow = add(s.tokens(), use, RowKind.STATISTICS);
      } else if (use.reference() == ReferenceUse.HIDDEN) {
        for (int r = 0; r < at.length; r++) {
          rows.reference(firstRow + r, source(at[r]));
        }
      }
      return new Placed(s, use, firstRow, at.length, twinRow, cached);
    }
  }
}
