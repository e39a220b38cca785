package org.lethe.train;

import java.util.ArrayList;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import org.lethe.model.HeadRows;
import org.lethe.model.PackedBatch;

/** The passes without a gradient that a piece needs, one for each view that it compares with. */
final class Passes {
  /** A pass: the name of the view, and what it reads. */
  record Pass(String view, PackedBatch packed) {}

  private final HeadRows.Builder rows;
  private final List<String> views = new ArrayList<>();
  private final List<List<int[]>> ids = new ArrayList<>();
  private final Map<String, Integer> starts = new HashMap<>();
  private final Map<String, Integer> sources = new HashMap<>();

  Passes(HeadRows.Builder rows) {
    this.rows = rows;
  }

  /**
   * The source at a token of a text that a view reads, one for all rows there.
   *
   * @param text tells the texts of a piece apart
   */
  int source(String view, String text, int[] tokens, int token) {
    int pass = views.indexOf(view);
    if (pass < 0) {
      pass = views.size();
      views.add(view);
      ids.add(new ArrayList<>());
    }
    String place = pass + " " + text;
    Integer start = starts.get(place);
    if (start == null) {
      start = ids.get(pass).stream().mapToInt(s -> s.length).sum();
      starts.put(place, start);
      ids.get(pass).add(tokens);
    }
    int at = start + token;
    int ofPass = pass;
    return sources.computeIfAbsent(pass + " " + at, key -> rows.source(ofPass, at));
  }

  List<Pass> build() {
    List<Pass> passes = new ArrayList<>();
    for (int i = 0; i < views.size(); i++) {
      passes.add(new Pass(views.get(i), PackedBatch.of(ids.get(i), 0)));
    }
    return passes;
  }
}
