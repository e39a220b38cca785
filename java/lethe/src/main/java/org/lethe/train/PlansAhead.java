package org.lethe.train;

import java.util.concurrent.CompletableFuture;
import java.util.concurrent.CompletionException;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;
import java.util.function.IntFunction;

/**
 * The plans of a run's steps: while one step is computed, the next one is tokenised, paired and
 * packed on a thread of its own. Between two steps nothing is under way, so whoever then uses or
 * closes what the plans are made of meets no other thread. What goes wrong in a plan is thrown
 * where its step is asked for.
 */
final class PlansAhead implements AutoCloseable {
  private final IntFunction<StepPlan> plans;
  private final ExecutorService thread =
      Executors.newSingleThreadExecutor(
          work -> {
            Thread made = new Thread(work, "lethe-batches");
            made.setDaemon(true);
            return made;
          });
  private CompletableFuture<StepPlan> next;
  private int nextIndex = -1;

  PlansAhead(IntFunction<StepPlan> plans) {
    this.plans = plans;
  }

  /** The plan of a step. */
  StepPlan take(int index) {
    if (index != nextIndex) {
      return plans.apply(index);
    }
    nextIndex = -1;
    try {
      return next.join();
    } catch (CompletionException e) {
      if (e.getCause() instanceof Error error) {
        throw error;
      }
      throw e.getCause() instanceof RuntimeException cause ? cause : e;
    }
  }

  /** Begins to plan a step. */
  void begin(int index) {
    nextIndex = index;
    next = CompletableFuture.supplyAsync(() -> plans.apply(index), thread);
  }

  /** Waits until nothing is under way, whatever comes of it. */
  void settle() {
    if (nextIndex >= 0) {
      next.handle((plan, failure) -> plan).join();
    }
  }

  /** Ends the thread. */
  @Override
  public void close() {
    settle();
    thread.shutdown();
  }
}
