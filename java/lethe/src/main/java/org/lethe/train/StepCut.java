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

  private StepCut(StepCut of, List<PieceSize.Group> groups) {
    this.layout = of.layout;
    this.groups = groups;
    this.total = of.total;
    this.largestGroup = of.largestGroup;
  }

  /** The same without its sequences, of which no pieces can be made. */
  StepCut withoutSequences() {
    return new StepCut(this, groups.stream().map(PieceSize.Group::withoutSequences).toList());
  }

  /** Tokens of the whole step. */
  int total() {
    return total;
  }

  /** Tokens of its largest group. */
  int largestGroup() {
    return largestGroup;
  }

  /** What it holds of memory without its sequences, in numbers of four bytes. */
  long numbers() {
    return groups.stream().mapToLong(PieceSize.Group::numbers).sum();
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
