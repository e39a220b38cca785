package org.lethe.train;

import java.util.Optional;
import java.util.concurrent.atomic.AtomicInteger;
import java.util.concurrent.atomic.AtomicReference;
import java.util.function.Supplier;

/**
 * Asks a run to stop after the step it is in, with a checkpoint. Any thread may ask, a signal's
 * too; the first reason stays.
 */
public final class StopRequest {
  private final AtomicReference<String> reason = new AtomicReference<>();
  private final AtomicInteger watchers = new AtomicInteger();

  /**
   * Asks.
   *
   * @param why as the run will report it
   */
  public void request(String why) {
    reason.compareAndSet(null, why);
  }

  /** Runs what looks at the request between its steps. */
  public <T> T watchedBy(Supplier<T> run) {
    watchers.incrementAndGet();
    try {
      return run.get();
    } finally {
      watchers.decrementAndGet();
    }
  }

  /** Whether a run will hear a request. */
  public boolean isWatched() {
    return watchers.get() > 0;
  }

  /** Why, when somebody asked. */
  public Optional<String> reason() {
    return Optional.ofNullable(reason.get());
  }
}
