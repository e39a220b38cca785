package org.lethe.train;

import java.util.ArrayList;
import java.util.EnumMap;
import java.util.HashSet;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.function.IntUnaryOperator;
import org.lethe.data.Counterpart;
import org.lethe.data.TokenSequence;
import org.lethe.method.Method;
import org.lethe.method.Positions;
import org.lethe.method.ReferenceUse;
import org.lethe.method.Role;
import org.lethe.method.RowKind;
import org.lethe.method.RowParameters;
import org.lethe.method.RowStatistics;
import org.lethe.method.Sequence;
import org.lethe.method.Sources;
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
  private final List<Passes.Pass> passes;
  private final List<Placed> placed;

  /** A sequence as one use sees it, its rows, and the rows of its reference twin (none: -1). */
  private record Placed(
      StepSequence sequence,
      Use use,
      int firstRow,
      int rows,
      int firstReferenceRow,
      double cachedNll) {}

  private MicroBatch(
      PackedBatch packed, HeadRows headRows, List<Passes.Pass> passes, List<Placed> placed) {
    this.packed = packed;
    this.headRows = headRows;
    this.passes = passes;
    this.placed = placed;
  }

  /** What the layout of a step needs to know besides its sequences. */
  static final class Layout {
    private final Map<Role, List<Use>> uses = new EnumMap<>(Role.class);
    private final ReferenceNll cache;
    private final boolean base;

    /**
     * Which rows and reference twins each role needs.
     *
     * @param cache the reference's sequence nll; null: the reference runs in the same batch
     * @param base whether the reference is the base itself, which can stand in the trained batch
     */
    Layout(Method method, ReferenceNll cache, boolean base) {
      for (Use use : method.uses()) {
        uses.computeIfAbsent(use.role(), role -> new ArrayList<>()).add(use);
      }
      this.cache = cache;
      this.base = base;
    }

    /** The same where the reference is the base. */
    Layout(Method method, ReferenceNll cache) {
      this(method, cache, true);
    }

    /** What looks at a role. */
    List<Use> of(Role role) {
      return uses.getOrDefault(role, List.of());
    }

    /** The most rows that one token of a step may have. */
    int rowsPerToken() {
      return uses.values().stream().mapToInt(List::size).max().orElse(1);
    }

    /** Whether a gradient flows through sequences of the role. */
    boolean trains(Role role) {
      return of(role).stream().anyMatch(use -> use.sources().trained());
    }

    /** Tokens of a sequence in all passes. */
    int tokens(StepSequence s) {
      int length = s.tokens().ids().length;
      int tokens = trains(s.role()) ? length : 0;
      if (needsTwin(s.role())) {
        tokens += length;
      }
      Set<String> passes = new HashSet<>();
      for (Use use : of(s.role())) {
        Sources from = use.sources();
        if (!from.trained() && passes.add(from.policy())) {
          tokens += length;
        }
        if (from.second() != null && passes.add(from.second())) {
          tokens += length;
        }
        if (refers(use) && from.counterpart() && passes.add(use.view() + "'")) {
          tokens += s.counterpart().ids().length;
        } else if (refers(use) && !from.counterpart() && !inBatch(use) && passes.add(use.view())) {
          tokens += length;
        }
      }
      return tokens;
    }

    /** How many head rows a sequence has. */
    int rows(StepSequence sequence) {
      return of(sequence.role()).stream().mapToInt(use -> Rows.of(use, sequence).length).sum();
    }

    private boolean needsTwin(Role role) {
      return of(role).stream().anyMatch(use -> refers(use) && inBatch(use));
    }

    /** Whether a use's reference is run. */
    private boolean refers(Use use) {
      return use.reference() == ReferenceUse.HIDDEN
          || (use.reference() == ReferenceUse.SEQUENCE_NLL && cache == null);
    }

    /** Whether a use's reference, if it has one, stands in the trained batch. */
    boolean inBatch(Use use) {
      return base
          && use.view().equals(Use.BASE)
          && !use.sources().counterpart()
          && use.sources().trained();
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
        int rows = Rows.of(use, s).length;
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

  /** The passes in other views, in the order in which the head is to gather them. */
  List<Passes.Pass> passes() {
    return passes;
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
    private final Passes passes = new Passes(rows);
    private final Map<Integer, Integer> sources = new LinkedHashMap<>();
    private int start;

    Builder(Layout layout) {
      this.layout = layout;
    }

    MicroBatch lay(List<StepSequence> piece, DropoutKeys keys) {
      Map<Use, int[]> firstRows = new LinkedHashMap<>();
      for (int i = 0; i < piece.size(); i++) {
        StepSequence s = piece.get(i);
        for (Use use : layout.of(s.role())) {
          int[] first = firstRows.computeIfAbsent(use, u -> new int[piece.size()]);
          if (use.sources().trained()) {
            first[i] = add(s, use, use.kind(), this::source);
          }
        }
        if (layout.trains(s.role())) {
          append(s);
        }
      }
      rows.endTrained();
      int trained = ids.size();
      int trainedTokens = start;
      List<Placed> placed = new ArrayList<>();
      for (int i = 0; i < piece.size(); i++) {
        StepSequence s = piece.get(i);
        String text = Integer.toString(i);
        for (Use use : layout.of(s.role())) {
          int first = firstRows.get(use)[i];
          if (!use.sources().trained()) {
            String policy = use.sources().policy();
            first = add(s, use, use.kind(), t -> own(policy, text, s, t));
          }
          placed.add(withReference(s, text, use, first));
        }
        if (layout.needsTwin(s.role())) {
          append(s);
        }
      }
      PackedBatch batch = PackedBatch.of(ids, trained);
      if (keys != null) {
        List<StepSequence> front = piece.stream().filter(s -> layout.trains(s.role())).toList();
        batch = batch.withRowKeys(keys.of(front));
      }
      return new MicroBatch(batch, rows.build(trainedTokens), passes.build(), placed);
    }

    private void append(StepSequence s) {
      ids.add(s.tokens().ids());
      start += s.tokens().ids().length;
    }

    /** Adds the rows of a sequence, whose hidden states are found by token; returns the first. */
    private int add(StepSequence s, Use use, RowKind kind, IntUnaryOperator source) {
      int first = -1;
      for (int t : Rows.of(use, s)) {
        int row = rows.row(source.applyAsInt(t), Rows.label(s, t), kind.code(), -1);
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

    /** The source at a token of a sequence that another view reads. */
    private int own(String view, String text, StepSequence s, int t) {
      return passes.source(view, text, s.tokens().ids(), t);
    }

    /** The source of the first reference at a token. */
    private int reference(StepSequence s, String text, Use use, int t) {
      if (use.sources().counterpart()) {
        Counterpart other = s.counterpart();
        return passes.source(use.view(), text + "'", other.ids(), other.rows()[t]);
      }
      return layout.inBatch(use) ? source(t) : own(use.view(), text, s, t);
    }

    /** Refers a use's rows to the references, of which the base stands next in the batch. */
    private Placed withReference(StepSequence s, String text, Use use, int firstRow) {
      int[] at = Rows.of(use, s);
      int twinRow = -1;
      double cached = Double.NaN;
      if (use.reference() == ReferenceUse.SEQUENCE_NLL && layout.cache != null) {
        cached = layout.cache.of(s.tokens(), use.positions());
      } else if (use.reference() == ReferenceUse.SEQUENCE_NLL) {
        twinRow = add(s, use, RowKind.STATISTICS, t -> reference(s, text, use, t));
      } else if (use.reference() == ReferenceUse.HIDDEN) {
        for (int r = 0; r < at.length; r++) {
          rows.reference(firstRow + r, reference(s, text, use, at[r]));
          if (use.sources().second() != null) {
            rows.second(firstRow + r, own(use.sources().second(), text, s, at[r]));
          }
        }
      }
      return new Placed(s, use, firstRow, at.length, twinRow, cached);
    }
  }
}
