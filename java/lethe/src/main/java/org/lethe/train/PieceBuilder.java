package org.lethe.train;

import java.util.ArrayList;
import java.util.Arrays;
import java.util.HashMap;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import org.lethe.data.TokenSequence;
import org.lethe.method.ReferenceUse;
import org.lethe.method.RowKind;
import org.lethe.method.RowParameters;
import org.lethe.method.Use;
import org.lethe.model.HeadRows;
import org.lethe.model.PackedBatch;

/**
 * Lays a piece of a step out: the sequences that train, then their reference twins. With padding,
 * each of the two parts begins with one token out of attention that stands for all of it, and all
 * rows there that look alike are one row of the head.
 */
final class PieceBuilder {
  private static final int PADDING_PLACE = 0;

  private final MicroBatch.Layout layout;
  private final List<int[]> ids = new ArrayList<>();
  private final List<int[]> places = new ArrayList<>();
  private final HeadRows.Builder rows = new HeadRows.Builder();
  private final List<Integer> headRowOf = new ArrayList<>();
  private final Map<Integer, Integer> sources = new LinkedHashMap<>();
  private final Map<PaddingRow, Integer> paddingRows = new HashMap<>();
  private int start;
  private int paddingToken = -1;

  /** What tells the head's rows at padding apart. */
  private record PaddingRow(Use use, RowKind kind, int label) {}

  PieceBuilder(MicroBatch.Layout layout) {
    this.layout = layout;
  }

  MicroBatch lay(List<StepSequence> piece) {
    appendPadding();
    List<List<Integer>> firstRows = new ArrayList<>();
    for (StepSequence s : piece) {
      List<Integer> ofUses = new ArrayList<>();
      for (Use use : layout.of(s.role())) {
        ofUses.add(add(s, use, use.kind()));
      }
      firstRows.add(ofUses);
      append(s);
    }
    rows.endTrained();
    int trainedTokens = start;
    int trained = ids.size();
    if (piece.stream().anyMatch(s -> layout.needsTwin(s.role()))) {
      appendPadding();
    }
    List<MicroBatch.Placed> placed = new ArrayList<>();
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
    PackedBatch packed = PackedBatch.of(ids, trained);
    if (layout.padding().isNone()) {
      return new MicroBatch(packed, rows.build(trainedTokens), placed, null);
    }
    int[] silent = trained < ids.size() ? new int[] {0, trained} : new int[] {0};
    return new MicroBatch(
        packed.at(places).silencing(silent),
        rows.build(trainedTokens),
        placed,
        headRowOf.stream().mapToInt(Integer::intValue).toArray());
  }

  /** Begins a part of the batch with the token that stands for its padding. */
  private void appendPadding() {
    if (!layout.padding().isNone()) {
      paddingToken = start++;
      paddingRows.clear();
      ids.add(new int[] {layout.padding().token()});
      places.add(new int[] {PADDING_PLACE});
    }
  }

  private void append(StepSequence s) {
    int[] own = s.tokens().ids();
    int[] attending = layout.padding().attending(s.tokens());
    ids.add(Arrays.stream(attending).map(t -> own[t]).toArray());
    places.add(attending);
    start += attending.length;
  }

  /** Adds the rows of a sequence that stands next in the batch; returns the first. */
  private int add(StepSequence s, Use use, RowKind kind) {
    int first = headRowOf.size();
    int[] attending = layout.padding().attending(s.tokens());
    for (int t : layout.rows(use, s)) {
      int label = label(s.tokens(), use, t);
      int at = Arrays.binarySearch(attending, t);
      headRowOf.add(
          at >= 0
              ? row(source(start + at), use, kind, label)
              : paddingRows.computeIfAbsent(
                  new PaddingRow(use, kind, label),
                  p -> row(source(paddingToken), use, kind, label)));
    }
    return first;
  }

  private int label(TokenSequence tokens, Use use, int t) {
    boolean indexed = use.parameters().labelShift() != 0;
    return layout.padding().label(tokens, t, indexed, layout.vocabulary());
  }

  private int row(int source, Use use, RowKind kind, int label) {
    int row = rows.row(source, label, kind.code(), -1);
    RowParameters p = use.parameters();
    rows.parameters(row, p.temperature(), p.labelShift(), p.mix(), p.epsilon());
    return row;
  }

  /** The source at a token of the batch, one for all rows there. */
  private int source(int token) {
    return sources.computeIfAbsent(token, rows::source);
  }

  /** Refers a use's rows to the reference twin, which stands next where there is one. */
  private MicroBatch.Placed withReference(StepSequence s, Use use, int firstRow) {
    int[] at = layout.rows(use, s);
    int twinRow = -1;
    double cached = Double.NaN;
    if (use.reference() == ReferenceUse.SEQUENCE_NLL && layout.cache() != null) {
      cached = layout.cache().of(s.tokens(), use.positions());
    } else if (use.reference() == ReferenceUse.SEQUENCE_NLL) {
      twinRow = add(s, use, RowKind.STATISTICS);
    } else if (use.reference() == ReferenceUse.HIDDEN) {
      int[] attending = layout.padding().attending(s.tokens());
      for (int r = 0; r < at.length; r++) {
        int place = Arrays.binarySearch(attending, at[r]);
        int token = place >= 0 ? start + place : paddingToken;
        rows.reference(headRowOf.get(firstRow + r), source(token));
      }
    }
    return new MicroBatch.Placed(s, use, firstRow, at.length, twinRow, cached);
  }
}
