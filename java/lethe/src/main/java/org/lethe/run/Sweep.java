package org.lethe.run;

import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.concurrent.ExecutionException;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;
import java.util.concurrent.Future;
import java.util.concurrent.atomic.AtomicBoolean;
import org.lethe.EnvironmentException;
import org.lethe.InternalFaultException;
import org.lethe.StoppedException;
import org.lethe.UserException;
import org.lethe.checkpoint.OutputDirectory;
import org.lethe.config.Config;
import org.lethe.config.Grid;
import org.lethe.config.RunConfig;
import org.lethe.evaluate.Evaluation;
import org.lethe.train.StopRequest;

/**
 * Unlearnings over a grid of methods and numbers, each an ordinary run in a numbered directory of
 * its own, and a leaderboard of what they came to.
 *
 * <p>The whole grid is checked before the first run begins. What a run comes to depends on its
 * configuration alone, so neither the order nor how many go side by side shows in the leaderboard.
 * A run whose training fails, such as by a loss that is not finite, is written down as failed, and
 * the others go on.
 */
public final class Sweep {
  /** Runs that a sweep may have unless more are allowed. */
  public static final int MOST = 64;

  /**
   * How a sweep is done.
   *
   * @param grid the values; the key {@code method} takes FORGET+RETAIN
   * @param most runs that there may be
   * @param parallel runs side by side; above 1 each has one thread unless the configuration says
   *     how many
   * @param resume whether to go on with what is in the output directory, when there is something
   */
  public record Options(Grid grid, int most, int parallel, boolean resume) {
    /**
     * Refuses numbers below 1.
     *
     * @throws UserException naming the option
     */
    public Options {
      if (most < 1) {
        throw new UserException("--max must be at least 1, not " + most);
      }
      if (parallel < 1) {
        throw new UserException("--parallel must be at least 1, not " + parallel);
      }
    }
  }

  private final SweepPlan plan;
  private final SweepFiles files;
  private final int parallel;
  private final RunListener listener;
  private final StopRequest stop;

  private Sweep(
      SweepPlan plan, SweepFiles files, int parallel, RunListener listener, StopRequest stop) {
    this.plan = plan;
    this.files = files;
    this.parallel = parallel;
    this.listener = new OneAtATime(listener);
    this.stop = stop;
  }

  /**
   * Runs all combinations into the output directory and writes {@code leaderboard.md} and {@code
   * leaderboard.html}.
   *
   * @param base the configuration that the grid's values are laid over
   * @param listener called from several threads, one at a time
   * @throws UserException before anything is run or written, when one of the runs cannot be
   * @throws StoppedException when it was asked to stop and has; it can be resumed
   */
  public static Leaderboard run(
      RunConfig base, Options options, RunListener listener, StopRequest stop) {
    SweepFiles files = new SweepFiles(base.output());
    if (options.resume() && RunIdentity.isThere(base.output())) {
      RunConfig begun = Resume.config(base.output());
      files.requireSame(begun, withThreads(base, begun.threads()), options.grid());
      return goOn(begun, options.parallel(), listener, stop).run();
    }
    int threads = options.parallel() > 1 ? 1 : 0;
    RunConfig own = withThreads(base, threads);
    SweepPlan plan = SweepPlan.of(own, options.grid(), options.most());
    OutputDirectory.check(base.output(), base.overwrite(), 0);
    Map<SweepStart, Evaluation> before = SweepStart.judge(plan.cells(), listener);
    files.begin(plan, options.parallel(), base.overwrite(), before);
    return new Sweep(plan, files, options.parallel(), listener, stop).run();
  }

  /** Goes on with a sweep that was interrupted. */
  static Resume.Result resume(RunConfig begun, RunListener listener, StopRequest stop) {
    SweepFiles files = new SweepFiles(begun.output());
    Sweep sweep = goOn(begun, files.parallel(), listener, stop);
    if (files.isFinished(sweep.plan.cells())) {
      return Resume.Result.WAS_FINISHED;
    }
    Leaderboard board = sweep.run();
    if (board.failures() > 0) {
      throw new UserException(board.failureMessage());
    }
    return Resume.Result.FINISHED;
  }

  private static Sweep goOn(RunConfig begun, int parallel, RunListener listener, StopRequest stop) {
    SweepFiles files = new SweepFiles(begun.output());
    SweepPlan plan = SweepPlan.of(begun, files.grid(), Integer.MAX_VALUE);
    return new Sweep(plan, files, parallel, listener, stop);
  }

  /**
   * A run's bits depend on its threads, so a sweep fixes them at its beginning.
   *
   * @param threads where the configuration leaves it open
   */
  private static RunConfig withThreads(RunConfig base, int threads) {
    return Config.with(
        base,
        RunConfig.class,
        List.of("overwrite=false", "threads=" + (base.threads() == 0 ? threads : base.threads())));
  }

  private Leaderboard run() {
    RunLock lock = RunLock.take(Inputs.real(plan.base().output()));
    try {
      List<SweepCell> todo = plan.cells().stream().filter(c -> !SweepFiles.isDone(c)).toList();
      int done = plan.cells().size() - todo.size();
      if (done > 0) {
        listener.note(done + " of " + plan.cells().size() + " runs are done and kept");
      }
      try {
        stop.watchedBy(
            () -> {
              runAll(todo);
              return null;
            });
      } catch (StoppedException e) {
        throw stopped(e);
      }
      Leaderboard board = Leaderboard.of(plan.base(), plan.cells());
      files.write(board);
      return board;
    } finally {
      lock.close();
    }
  }

  private StoppedException stopped(StoppedException e) {
    long done = plan.cells().stream().filter(SweepFiles::isDone).count();
    return new StoppedException(
        e.steps(),
        "the sweep stopped by "
            + stop.reason().orElse("request")
            + "; "
            + done
            + " of "
            + plan.cells().size()
            + " runs are done, go on with: lethe resume "
            + plan.base().output());
  }

  private void runAll(List<SweepCell> todo) {
    Map<SweepStart, Evaluation> before = files.before(plan.cells());
    ExecutorService threads =
        Executors.newFixedThreadPool(Math.max(1, Math.min(parallel, todo.size())));
    AtomicBoolean broken = new AtomicBoolean();
    try {
      Map<SweepCell, Future<?>> runs = new LinkedHashMap<>();
      for (SweepCell cell : todo) {
        Evaluation given = before.get(SweepStart.of(cell.config()));
        runs.put(cell, threads.submit(() -> runUnless(broken, cell, given)));
      }
      join(List.copyOf(runs.values()));
    } finally {
      threads.shutdown();
    }
  }

  /** What ends the sweep leaves the runs that have begun to their ends, and begins no more. */
  private void runUnless(AtomicBoolean broken, SweepCell cell, Evaluation before) {
    if (broken.get()) {
      return;
    }
    try {
      if (stop.reason().isPresent()) {
        throw new StoppedException(0, "stopped by " + stop.reason().get());
      }
      run(cell, before);
    } catch (RuntimeException | Error e) {
      broken.set(true);
      throw e;
    }
  }

  private void run(SweepCell cell, Evaluation before) {
    Path directory = cell.config().output();
    SweepListener own = new SweepListener(listener, cell.number() + "/" + plan.cells().size());
    try {
      if (RunIdentity.isThere(directory)) {
        Resume.run(directory, own, stop);
      } else {
        Phases.clear(directory);
        Unlearn.run(cell.config(), before, own, stop);
      }
    } catch (UserException e) {
      // Before the training begins it is the input, or another process, and not this run's numbers.
      if (!own.trained()) {
        throw e;
      }
      fail(cell, e.getMessage(), own);
    } catch (EnvironmentException e) {
      if (!e.isOutOfMemory()) {
        throw e;
      }
      fail(cell, e.getMessage(), own);
    }
  }

  private static void fail(SweepCell cell, String message, RunListener listener) {
    SweepFiles.fail(cell, message);
    listener.phaseEnd();
    listener.note("failed: " + message);
  }

  /** Waits for all; the first failure in the grid's order is thrown, with the others beside it. */
  private static void join(List<Future<?>> runs) {
    List<Throwable> failures = new ArrayList<>();
    for (Future<?> run : runs) {
      try {
        run.get();
      } catch (ExecutionException e) {
        failures.add(e.getCause());
      } catch (InterruptedException e) {
        Thread.currentThread().interrupt();
        throw new EnvironmentException("interrupted; go on with the sweep by lethe resume", e);
      }
    }
    if (failures.isEmpty()) {
      return;
    }
    // A request to stop that others heard after a failure does not hide the failure.
    Throwable first =
        failures.stream()
            .filter(f -> !(f instanceof StoppedException))
            .findFirst()
            .orElse(failures.get(0));
    failures.stream().filter(f -> f != first).forEach(first::addSuppressed);
    if (first instanceof RuntimeException e) {
      throw e;
    }
    if (first instanceof Error e) {
      throw e;
    }
    throw new InternalFaultException("a run of the sweep failed: " + first, first);
  }

  /** Whether a directory is a sweep's. */
  public static boolean isThere(Path directory) {
    return Files.isRegularFile(directory.resolve(SweepFiles.SWEEP));
  }
}
