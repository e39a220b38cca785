package org.lethe.train;

import java.util.ArrayList;
import java.util.Arrays;
import java.util.HashMap;
import java.util.Iterator;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.function.IntUnaryOperator;
import java.util.function.Predicate;
import org.lethe.data.Counterpart;
import org.lethe.method.ReferenceUse;
import org.lethe.method.Role;
import org.lethe.method.RowKind;
import org.lethe.method.RowParameters;
import org.lethe.method.Use;
import org.lethe.model.HeadRows;
import org.lethe.model.PackedBatch;
import org.lethe.model.Packer;

/**
 * Lays a piece of a step out: the sequences that train, then their reference twins. With padding,
 * each of the two parts begins with one token out of attention that stands for all of it, and all
 * rows there that look alike are one row of the head.
 */
final class PieceBuilder {
  private static final int PADDING_PLACE = 0;

  private final MicroBatch.Layout layout;
  private final Packer packer = new Packer();
  private final HeadRows.Builder rows = new HeadRows.Builder();
  private final Passes passes = new Passes(rows);
  private final List<Integer> headRowOf = new ArrayList<>();
  private final Map<Integer, Integer> sources = new LinkedHashMap<>();
  private final Map<PaddingRow, Integer> paddingRows = new HashMap<>();
  private int paddingToken = -1;

  /** What tells the head's rows at padding apart. */
  private record PaddingRow(Use use, RowKind kind, int label) {}

  PieceBuilder(MicroBatch.Layout layout) {
    this.layout = layout;
  }

  /**
   * Lays out sequences whose pairs are whole.
   *
   * @param keys of dropout in the adapters; null: none
   */
  MicroBatch lay(List<StepSequence> piece, DropoutKeys keys) {
    appendPadding();
    Map<Use, int[]> firstRows = new LinkedHashMap<>();
    List<Packer.Place> trainedPlaces = places(piece, layout::trains);
    for (int i = 0; i < piece.size(); i++) {
      StepSequence s = piece.get(i);
      for (Use use : layout.of(s.role())) {
        int[] first = firstRows.computeIfAbsent(use, u -> new int[piece.size()]);
        if (use.sources().trained()) {
          first[i] = add(s, use, use.kind(), at(s, trainedPlaces.get(i)));
        }
      }
    }
    rows.endTrained();
    int trainedTokens = packer.tokens();
    int trained = packer.sequences();
    if (piece.stream().anyMatch(s -> layout.needsTwin(s.role()))) {
      appendPadding();
    }
    List<Packer.Place> twinPlaces = places(piece, layout::needsTwin);
    List<MicroBatch.Placed> placed = new ArrayList<>();
    for (int i = 0; i < piece.size(); i++) {
      StepSequence s = piece.get(i);
      String text = Integer.toString(i);
      for (Use use : layout.of(s.role())) {
        int first = firstRows.get(use)[i];
        if (!use.sources().trained()) {
          first = add(s, use, use.kind(), t -> own(use.sources().policy(), text, s, t));
        }
        placed.add(withReference(s, twinPlaces.get(i), text, use, first));
      }
    }
    PackedBatch packed = packer.build(trained);
    if (!layout.padding().isNone()) {
      packed =
          packed.silencing(trained < packer.sequences() ? new int[] {0, trained} : new int[] {0});
    }
    if (keys != null) {
      packed =
          packed.withRowKeys(keys.of(piece.stream().filter(s -> layout.trains(s.role())).toList()));
    }
    return new MicroBatch(packed, rows.build(trainedTokens), passes.build(), placed, headRows());
  }

  /** Packs the sequences of a side; null where one is not of it. */
  private List<Packer.Place> places(List<StepSequence> piece, Predicate<Role> side) {
    Iterator<Packer.Place> places;
    if (layout.padding().isNone()) {
      places = layout.prefixes().pack(packer, layout.texts(piece, side)).iterator();
    } else {
      places =
          piece.stream().filter(s -> side.test(s.role())).map(this::append).toList().iterator();
    }
    List<Packer.Place> ofPiece = new ArrayList<>();
    piece.forEach(s -> ofPiece.add(side.test(s.role()) ? places.next() : null));
    return ofPiece;
  }

  private int[] headRows() {
    return layout.padding().isNone()
        ? null
        : headRowOf.stream().mapToInt(Integer::intValue).toArray();
  }

  /** Begins a part of the batch with the token that stands for its padding. */
  private void appendPadding() {
    if (!layout.padding().isNone()) {
      paddingToken = packer.tokens();
      paddingRows.clear();
      packer.add(new int[] {layout.padding().token()}, new int[] {PADDING_PLACE});
    }
  }

  /** Packs what a padded row has attention at. */
  private Packer.Place append(StepSequence s) {
    int[] own = s.tokens().ids();
    int[] attending = layout.padding().attending(s.tokens());
    return packer.add(Arrays.stream(attending).map(t -> own[t]).toArray(), attending);
  }

  /** Adds the rows of a sequence, whose hidden states are found by place; returns the first. */
  private int add(StepSequence s, Use use, RowKind kind, IntUnaryOperator source) {
    int first = headRowOf.size();
    for (int t : layout.rows(use, s)) {
      int label = layout.label(use, s, t);
      int at = source.applyAsInt(t);
      headRowOf.add(
          at == paddingSource()
              ? paddingRows.computeIfAbsent(
                  new PaddingRow(use, kind, label), p -> row(at, use, kind, label))
              : row(at, use, kind, label));
    }
    return first;
  }

  private int row(int source, Use use, RowKind kind, int label) {
    int row = rows.row(source, label, kind.code(), -1);
    RowParameters p = use.parameters();
    rows.parameters(row, p.temperature(), p.labelShift(), p.mix(), p.epsilon());
    return row;
  }

  /** The source at the token that stands for padding here, or one that there is not. */
  private int paddingSource() {
    return sources.getOrDefault(paddingToken, -1);
  }

  /** The source at a token of the batch, one for all rows there. */
  private int source(int token) {
    return sources.computeIfAbsent(token, rows::source);
  }

  /** Finds the source at a place of a sequence that stands in the batch. */
  private IntUnaryOperator at(StepSequence s, Packer.Place place) {
    if (layout.padding().isNone()) {
      return t -> source(place.token(t));
    }
    int[] attending = layout.padding().attending(s.tokens());
    return t -> {
      int token = Arrays.binarySearch(attending, t);
      return source(token >= 0 ? place.token(token) : paddingToken);
    };
  }

  /** The source at a token of a sequence that another view reads. */
  private int own(String view, String text, StepSequence s, int t) {
    return passes.source(view, text, s.tokens().ids(), t);
  }

  /** Finds the source of the first reference at a place. */
  private IntUnaryOperator reference(StepSequence s, Packer.Place twin, String text, Use use) {
    if (use.sources().counterpart()) {
      Counterpart other = s.counterpart();
      return t -> passes.source(use.view(), text + "'", other.ids(), other.rows()[t]);
    }
    return layout.inBatch(use) ? at(s, twin) : t -> own(use.view(), text, s, t);
  }

  /** Refers a use's rows to the references, of which the base stands in the batch as its twin. */
  private MicroBatch.Placed withReference(
      StepSequence s, Packer.Place twin, String text, Use use, int firstRow) {
    int[] at = layout.rows(use, s);
    int twinRow = -1;
    double cached = Double.NaN;
    if (use.reference() == ReferenceUse.SEQUENCE_NLL && layout.cache() != null) {
      cached = layout.cache().of(s.tokens(), use.positions());
    } else if (use.reference() == ReferenceUse.SEQUENCE_NLL) {
      twinRow = add(s, use, RowKind.STATISTICS, reference(s, twin, text, use));
    } else if (use.reference() == ReferenceUse.HIDDEN) {
      IntUnaryOperator reference = reference(s, twin, text, use);
      for (int r = 0; r < at.length; r++) {
        int row = headRowOf.get(firstRow + r);
        rows.reference(row, reference.applyAsInt(at[r]));
        if (use.sources().second() != null) {
          rows.second(row, own(use.sources().second(), text, s, at[r]));
        }
      }
    }
    return new MicroBatch.Placed(s, use, firstRow, at.length, twinRow, cached);
  }
}
