package org.lethe.train;

import jdk.jfr.Category;
import jdk.jfr.Description;
import jdk.jfr.Event;
import jdk.jfr.Label;
import jdk.jfr.Name;
import jdk.jfr.StackTrace;

/** A training step in a flight recording; costs nothing while none is made. */
@Name("org.lethe.Step")
@Label("Training Step")
@Category("Lethe")
@Description("One step: forward, backward, update")
@StackTrace(false)
final class StepEvent extends Event {
  @Label("Step")
  int step;

  @Label("Loss")
  double loss;

  @Label("Gradient Norm")
  double gradientNorm;

  @Label("Tokens")
  int tokens;

  @Label("Shared Tokens")
  int sharedTokens;

  @Label("Micro-batches")
  int microBatches;

  @Label("Applied")
  boolean applied;

  void end(StepReport report) {
    end();
    if (shouldCommit()) {
      step = report.step();
      loss = report.loss();
      gradientNorm = report.gradientNorm();
      tokens = report.tokens();
      sharedTokens = report.sharedTokens();
      microBatches = report.microBatches();
      applied = report.applied();
      commit();
    }
  }
}
