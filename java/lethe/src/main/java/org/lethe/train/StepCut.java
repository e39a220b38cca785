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
  private final List<List<StepSequence>> groups;
  private final MicroBatch.Layout layout;

  StepCut(List<StepSequence> step, MicroBatch.Layout layout) {
    Map<String, List<StepSequence>> byPair = new LinkedHashMap<>();
    for (StepSequence s : step) {
      byPair.computeIfAbsent(s.forgets() + "/" + s.pair(), k -> new ArrayList<>()).add(s);
    }
    this.groups = List.copyOf(byPair.values());
    this.layout = layout;
  }

  /** Of all steps of a run. */
  static StepCuts all(Iterable<List<StepSequence>> steps, MicroBatch.Layout layout) {
    List<StepCut> cuts = new ArrayList<>();
    for (List<StepSequence> step : steps) {
      cuts.add(new StepCut(step, layout));
    }
    return new StepCuts() {
      @Override
      public int largest(int limit) {
        return cuts.stream().mapToInt(cut -> cut.largest(limit)).max().orElse(0);
      }

      @Override
      public int tightest(int limit) {
        return cuts.stream().mapToInt(cut -> cut.tightest(limit)).max().orElse(limit);
      }
    };
  }

  /** The sequences of each piece. */
  List<List<StepSequence>> pieces(int limit) {
    int even = tightest(limit);
    List<List<StepSequence>> pieces = new ArrayList<>();
    PieceSize size = null;
    for (List<StepSequence> group : groups) {
      if (size == null || size.with(group) > even) {
        pieces.add(new ArrayList<>());
        size = new PieceSize(layout);
      }
      pieces.get(pieces.size() - 1).addAll(group);
      size.add(group);
    }
    return pieces;
  }

  /** The least limit that makes no more pieces than this one. */
  int tightest(int limit) {
    int pieces = count(limit);
    if (pieces <= 1) {
      return Math.min(limit, total());
    }
    // More tokens never make more pieces: each takes as many groups as it can.
    int enough = limit;
    int tooFew = 0;
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
    int largest = 0;
    for (List<StepSequence> group : groups) {
      largest = Math.max(largest, new PieceSize(layout).with(group));
    }
    return Math.max(largest, Math.min(total(), limit));
  }

  private int total() {
    PieceSize whole = new PieceSize(layout);
    int total = 0;
    for (List<StepSequence> group : groups) {
      total = whole.add(group);
    }
    return total;
  }

  private int count(int limit) {
    int pieces = 0;
    PieceSize size = null;
    for (List<StepSequence> group : groups) {
      if (size == null || size.with(group) > limit) {
        pieces++;
        size = new PieceSize(layout);
      }
      size.add(group);
    }
    return pieces;
  }
}
