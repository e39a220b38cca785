package org.lethe.train;

import java.util.ArrayList;
import java.util.EnumMap;
import java.util.EnumSet;
import java.util.HashSet;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.function.Predicate;
import org.lethe.UserException;
import org.lethe.data.TokenSequence;
import org.lethe.method.Method;
import org.lethe.method.Positions;
import org.lethe.method.ReferenceUse;
import org.lethe.method.Role;
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
  private final int[] headRowOf;

  /** A sequence as one use sees it, its rows, and the rows of its reference twin (none: -1). */
  record Placed(
      StepSequence sequence,
      Use use,
      int firstRow,
      int rows,
      int firstReferenceRow,
      double cachedNll) {}

  /**
   * Takes what was laid out.
   *
   * @param headRowOf the head's row of each row that losses look at; null where they are the same
   */
  MicroBatch(
      PackedBatch packed,
      HeadRows headRows,
      List<Passes.Pass> passes,
      List<Placed> placed,
      int[] headRowOf) {
    this.packed = packed;
    this.headRows = headRows;
    this.passes = passes;
    this.placed = placed;
    this.headRowOf = headRowOf;
  }

  /** What the layout of a step needs to know besides its sequences. */
  static final class Layout {
    private final Map<Role, List<Use>> uses = new EnumMap<>(Role.class);
    // They are asked of every sequence of every step.
    private final Set<Role> trained = EnumSet.noneOf(Role.class);
    private final Set<Role> twins = EnumSet.noneOf(Role.class);
    private final Map<Role, Integer> passes = new EnumMap<>(Role.class);
    private final ReferenceNll cache;
    private final boolean base;
    private final Padding padding;
    private final int vocabulary;
    private final Prefixes prefixes;
    private final Map<Role, Integer> longest;

    /**
     * Which rows and reference twins each role needs, without padding or shared prefixes; the base
     * is reference.
     */
    Layout(Method method, ReferenceNll cache) {
      this(method, cache, true, Padding.NONE, Prefixes.NONE, 0);
    }

    /**
     * Which rows and reference twins each role needs.
     *
     * @param cache the reference's sequence nll; null: the reference runs in the same batch
     * @param base whether the reference is the base itself, which can stand in the trained batch
     * @param prefixes which sequences leave tokens to others
     * @param vocabulary of the model; 0 where no rows will be laid
     */
    Layout(
        Method method,
        ReferenceNll cache,
        boolean base,
        Padding padding,
        Prefixes prefixes,
        int vocabulary) {
      for (Use use : method.uses()) {
        uses.computeIfAbsent(use.role(), role -> new ArrayList<>()).add(use);
      }
      // What was scored without a mask inside rows is not what rows with one say.
      this.cache = padding.masksInside() ? null : cache;
      this.base = base;
      this.padding = padding;
      this.prefixes = prefixes;
      this.vocabulary = vocabulary;
      this.longest = Map.of();
      uses.forEach(this::count);
      if (!padding.isNone() && method.uses().stream().anyMatch(use -> !inBatch(use))) {
        throw new UserException(
            method.name()
                + " compares with other models than the base, and parity.padding is that of methods"
                + " that do not; set parity.padding=none, or start from a merged model");
      }
    }

    private Layout(Layout layout, Map<Role, Integer> longest) {
      this.uses.putAll(layout.uses);
      this.trained.addAll(layout.trained);
      this.twins.addAll(layout.twins);
      this.passes.putAll(layout.passes);
      this.cache = layout.cache;
      this.base = layout.base;
      this.padding = layout.padding;
      this.prefixes = layout.prefixes;
      this.vocabulary = layout.vocabulary;
      this.longest = longest;
    }

    /** In which passes a role's sequences stand. */
    private void count(Role role, List<Use> looks) {
      if (looks.stream().anyMatch(use -> use.sources().trained())) {
        trained.add(role);
      }
      if (looks.stream().anyMatch(use -> refers(use) && inBatch(use))) {
        twins.add(role);
      }
      Set<String> views = new HashSet<>();
      for (Use use : looks) {
        Sources from = use.sources();
        if (!from.trained()) {
          views.add(from.policy());
        }
        if (from.second() != null) {
          views.add(from.second());
        }
        if (refers(use) && !from.counterpart() && !inBatch(use)) {
          views.add(use.view());
        }
      }
      passes.put(
          role, views.size() + (trained.contains(role) ? 1 : 0) + (twins.contains(role) ? 1 : 0));
    }

    /** The same for sequences that are padded to the longest of their role. */
    Layout padding(List<StepSequence> sequences) {
      Map<Role, Integer> lengths = new EnumMap<>(Role.class);
      for (StepSequence s : sequences) {
        lengths.merge(s.role(), s.tokens().ids().length, Math::max);
      }
      return new Layout(this, lengths);
    }

    /** The rows of a sequence that a use looks at, as indices of its padded row. */
    int[] rows(Use use, StepSequence s) {
      if (padding.isNone()) {
        return Rows.of(use, s);
      }
      int padded = padding.length() > 0 ? padding.length() : longest.getOrDefault(s.role(), 0);
      return padding.rows(use.positions(), s.tokens(), padded);
    }

    /** How many they are. */
    private int count(Use use, StepSequence s) {
      return padding.isNone() ? Rows.count(use, s) : rows(use, s).length;
    }

    /** The label of such a row, or {@link Rows#NO_LABEL}. */
    int label(Use use, StepSequence s, int row) {
      if (padding.isNone()) {
        return Rows.label(s, row);
      }
      boolean indexed = use.parameters().labelShift() != 0;
      return padding.label(s.tokens(), row, indexed, vocabulary);
    }

    Padding padding() {
      return padding;
    }

    Prefixes prefixes() {
      return prefixes;
    }

    ReferenceNll cache() {
      return cache;
    }

    /** What looks at a role. */
    List<Use> of(Role role) {
      return uses.getOrDefault(role, List.of());
    }

    /** The most rows that a piece of so many tokens may have. */
    int rows(int tokens) {
      int perToken = uses.values().stream().mapToInt(List::size).max().orElse(1);
      int all = uses.values().stream().mapToInt(List::size).sum();
      return Math.addExact(Math.multiplyExact(tokens, perToken), all * padTokens());
    }

    /** Whether a gradient flows through sequences of the role. */
    boolean trains(Role role) {
      return trained.contains(role);
    }

    /**
     * A sequence as those see it that share prefixes: for each row that a use looks at it brings a
     * token of its own, so that the rows of a batch are bounded by its tokens.
     */
    Prefixes.Text text(StepSequence s) {
      int own = 0;
      for (Use use : of(s.role())) {
        own = Math.max(own, count(use, s));
      }
      return new Prefixes.Text(s.tokens().ids(), own, s.forgets() + "/" + s.pair());
    }

    /** The sequences of a side, as those see them that share prefixes. */
    List<Prefixes.Text> texts(List<StepSequence> piece, Predicate<Role> side) {
      return piece.stream().filter(s -> side.test(s.role())).map(this::text).toList();
    }

    /** Tokens of sequences in all passes, none of them shared. */
    int tokens(List<StepSequence> group) {
      return group.stream().mapToInt(this::tokens).sum();
    }

    /** Tokens of a sequence in all passes, none of them shared. */
    int tokens(StepSequence s) {
      int tokens = passes.getOrDefault(s.role(), 0) * s.tokens().ids().length;
      if (s.counterpart() != null) {
        long views =
            of(s.role()).stream()
                .filter(use -> refers(use) && use.sources().counterpart())
                .map(Use::view)
                .distinct()
                .count();
        tokens += (int) views * s.counterpart().ids().length;
      }
      return tokens;
    }

    /** Tokens that stand for padding in a piece: the model's and its reference's. */
    int padTokens() {
      return padding.isNone() ? 0 : 2;
    }

    /** How many head rows a sequence has. */
    int rows(StepSequence sequence) {
      return of(sequence.role()).stream().mapToInt(use -> count(use, sequence)).sum();
    }

    boolean needsTwin(Role role) {
      return twins.contains(role);
    }

    /** Whether a use's reference is run. */
    boolean refers(Use use) {
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
        int rows = layout.count(use, s);
        outline.add(new Sequence(use, s.pair(), 0, rows, Double.NaN));
      }
    }
    return outline;
  }

  /** Cuts a step into pieces of at most {@code budget} tokens, as {@link StepCut} does. */
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
    for (List<StepSequence> piece : new StepCut(step, layout).pieces(budget)) {
      pieces.add(new PieceBuilder(layout).lay(piece, keys));
    }
    return pieces;
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

  /**
   * The statistics of all rows that losses look at: those of the head, rows at padding as often as
   * they count.
   *
   * @param values [head rows, {@value RowStatistics#COLUMNS}]
   */
  RowStatistics statistics(float[] values, int vocabulary) {
    if (headRowOf == null) {
      return new RowStatistics(values, vocabulary);
    }
    int columns = RowStatistics.COLUMNS;
    float[] all = new float[headRowOf.length * columns];
    for (int row = 0; row < headRowOf.length; row++) {
      System.arraycopy(values, headRowOf[row] * columns, all, row * columns, columns);
    }
    return new RowStatistics(all, vocabulary);
  }

  /** The coefficients of the head's rows: a row's gradient is linear in them. */
  float[] ofHead(double[] coefficients, double factor) {
    double[] sums = new double[headRows.rows()];
    for (int row = 0; row < coefficients.length; row++) {
      sums[headRowOf == null ? row : headRowOf[row]] += factor * coefficients[row];
    }
    float[] floats = new float[sums.length];
    for (int i = 0; i < sums.length; i++) {
      floats[i] = (float) sums[i];
    }
    return floats;
  }

  /** The method's view of the piece, given {@link #statistics}. */
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
}
