package org.lethe.train;

import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;

/**
 * How a step is shared out among pieces: as few as a limit of tokens allows, and those about equal.
 * A remainder as a piece of its own would pay for reading all weights as a whole one does, while
 * the others took memory that equal pieces leave free. An example and its twins with other answers
 * stay together, since losses compare them; such a group that exceeds the limit is a piece of its
 * own.
 */
final class StepCut {
  // More steps than that differ as these do, and a run may have more than the heap has room for:
  // one of those behind them may be cut into a piece more, which costs a little and takes nothing.
  private static final int KEPT = 4096;

  private final List<PieceSize.Group> groups;
  private final MicroBatch.Layout layout;
  private final int total;
  private final int largestGroup;

  StepCut(List<StepSequence> step, MicroBatch.Layout layout) {
    this.layout = layout;
    Map<String, List<StepSequence>> byPair = new LinkedHashMap<>();
    for (StepSequence s : step) {
      byPair.computeIfAbsent(s.forgets() + "/" + s.pair(), k -> new ArrayList<>()).add(s);
    }
    this.groups = byPair.values().stream().map(pair -> PieceSize.Group.of(pair, layout)).toList();
    PieceSize whole = new PieceSize(layout);
    int all = 0;
    int largest = 0;
    for (PieceSize.Group group : groups) {
      all = whole.add(group);
      largest = Math.max(largest, new PieceSize(layout).add(group));
    }
    this.total = all;
    this.largestGroup = largest;
  }

  /** Of all steps of a run. */
  static StepCuts all(Iterable<List<StepSequence>> steps, MicroBatch.Layout layout) {
    return all(steps, layout, KEPT);
  }

  /**
   * The same.
   *
   * @param kept steps that are looked at for every limit; of what follows only the sizes bound it
   */
  static StepCuts all(Iterable<List<StepSequence>> steps, MicroBatch.Layout layout, int kept) {
    List<StepCut> cuts = new ArrayList<>();
    int total = 0;
    int group = 0;
    for (List<StepSequence> step : steps) {
      StepCut cut = new StepCut(step, layout);
      total = Math.max(total, cut.total);
      group = Math.max(group, cut.largestGroup);
      if (cuts.size() < kept) {
        cuts.add(cut);
      }
    }
    return new All(cuts, total, group);
  }

  /** Of some steps, and of others whose largest numbers alone are known. */
  private record All(List<StepCut> cuts, int total, int group) implements StepCuts {
    @Override
    public int largest(int limit) {
      return Math.max(group, Math.min(total, limit));
    }

    @Override
    public int tightest(int limit) {
      // Where all steps are whole, all of them stay so.
      if (total <= limit) {
        return Math.max(1, total);
      }
      int tightest = 1;
      for (StepCut cut : cuts) {
        tightest = cut.tightest(limit, tightest);
      }
      return tightest;
    }
  }

  /** The sequences of each piece. */
  List<List<StepSequence>> pieces(int limit) {
    int even = tightest(limit, 1);
    List<List<StepSequence>> pieces = new ArrayList<>();
    PieceSize size = null;
    for (PieceSize.Group group : groups) {
      if (size == null || size.add(group) > even) {
        pieces.add(new ArrayList<>());
        size = new PieceSize(layout);
        size.add(group);
      }
      pieces.get(pieces.size() - 1).addAll(group.sequences());
    }
    return pieces;
  }

  /** The least limit, from {@code least} on, that makes no more pieces than this one. */
  int tightest(int limit, int least) {
    if (total <= limit || groups.size() <= 1) {
      return Math.max(least, Math.min(limit, total));
    }
    int pieces = count(limit);
    if (count(least) <= pieces) {
      return least;
    }
    // More tokens never make more pieces: each takes as many groups as it can. The largest group
    // bounds the largest piece, so where it fits, less than it is not looked at.
    int enough = limit;
    int tooFew = limit < largestGroup ? least : Math.max(least, largestGroup - 1);
    while (enough - tooFew > 1) {
      int middle = tooFew + (enough - tooFew) / 2;
      if (count(middle) <= pieces) {
        enough = middle;
      } else {
        tooFew = middle;
      }
    }
    return enough;
  }

  /** Tokens that are enough for every piece of the step, or of some of its groups. */
  int largest(int limit) {
    return Math.max(largestGroup, Math.min(total, limit));
  }

  private int count(int limit) {
    int pieces = 0;
    PieceSize size = null;
    for (PieceSize.Group group : groups) {
      if (size == null || size.add(group) > limit) {
        pieces++;
        size = new PieceSize(layout);
        size.add(group);
      }
    }
    return pieces;
  }
}
