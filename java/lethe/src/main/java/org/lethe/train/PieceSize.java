package org.lethe.train;

import java.util.List;

/** The tokens of a piece of a step, in all passes, as groups of sequences join it. */
final class PieceSize {
  private final MicroBatch.Layout layout;
  private final Prefixes.Plan trained;
  private final Prefixes.Plan twins;
  private int tokens;

  /** Of a piece without sequences. */
  PieceSize(MicroBatch.Layout layout) {
    this.layout = layout;
    this.trained = layout.prefixes().plan();
    this.twins = layout.prefixes().plan();
    this.tokens = layout.padTokens();
  }

  /** What it would be with a group more. */
  int with(List<StepSequence> group) {
    int all = tokens + layout.tokens(group);
    return layout.prefixes().isNone()
        ? all
        : all
            - trained.saved(layout.texts(group, layout::trains))
            - twins.saved(layout.texts(group, layout::needsTwin));
  }

  /** Adds a group; returns what it is then. */
  int add(List<StepSequence> group) {
    tokens += layout.tokens(group);
    if (!layout.prefixes().isNone()) {
      tokens -= trained.add(layout.texts(group, layout::trains));
      tokens -= twins.add(layout.texts(group, layout::needsTwin));
    }
    return tokens;
  }
}
