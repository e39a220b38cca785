package org.lethe.cuda;

import java.time.Duration;
import java.util.concurrent.ScheduledFuture;
import java.util.concurrent.ScheduledThreadPoolExecutor;
import java.util.concurrent.TimeUnit;
import org.bytedeco.cuda.global.nccl;
import org.bytedeco.cuda.nccl.ncclComm;

/**
 * Ends an exchange that would not end by itself: NCCL waits for ranks without a limit, in its calls
 * as well as on the device, until its communicator is aborted from another thread.
 */
final class NcclWatch implements AutoCloseable {
  private static final long LONGEST_PAUSE_MILLIS = 20;

  private final NcclCalls calls;
  private final ncclComm communicator;
  private final Duration timeout;
  private final ScheduledThreadPoolExecutor thread;

  NcclWatch(NcclCalls calls, ncclComm communicator, Duration timeout) {
    this.calls = calls;
    this.communicator = communicator;
    this.timeout = timeout;
    this.thread =
        new ScheduledThreadPoolExecutor(
            1,
            task -> {
              Thread created = new Thread(task, "lethe-nccl-watch");
              created.setDaemon(true);
              return created;
            });
    thread.setRemoveOnCancelPolicy(true);
  }

  /** How an exchange ended. */
  enum Verdict {
    /** Its thread came to the end, well or not. */
    CAME_BACK,
    /** Aborted: it took too long. */
    LATE,
    /** Aborted: NCCL reported an error of the communicator. */
    BROKEN
  }

  /** Watches over what the calling thread does from now on. */
  Exchange begin() {
    Exchange exchange = new Exchange(System.nanoTime() + timeout.toNanos());
    long pause = Math.min(LONGEST_PAUSE_MILLIS, timeout.toMillis());
    exchange.ticks =
        thread.scheduleWithFixedDelay(exchange::look, pause, pause, TimeUnit.MILLISECONDS);
    return exchange;
  }

  @Override
  public void close() {
    thread.shutdownNow();
  }

  /** One exchange; the communicator is not touched by two threads after it was aborted. */
  final class Exchange {
    private final long end;
    private ScheduledFuture<?> ticks;
    private Verdict verdict;
    private int error;

    private Exchange(long end) {
      this.end = end;
    }

    private synchronized void look() {
      if (verdict != null) {
        return;
      }
      int state = state();
      if (state != nccl.ncclSuccess && state != nccl.ncclInProgress) {
        error = state;
        abort(Verdict.BROKEN);
      } else if (System.nanoTime() - end >= 0) {
        abort(Verdict.LATE);
      }
    }

    private void abort(Verdict because) {
      verdict = because;
      calls.abort(communicator);
    }

    private int state() {
      int[] state = new int[1];
      int status = calls.asyncError(communicator, state);
      return status == nccl.ncclSuccess ? state[0] : status;
    }

    /** Whether a communicator that does not block is still at its last call. */
    synchronized boolean inProgress() {
      return verdict == null && state() == nccl.ncclInProgress;
    }

    /** Ends the watch; when it had to abort, that is done when this returns. */
    Verdict end() {
      ticks.cancel(false);
      synchronized (this) {
        verdict = verdict == null ? Verdict.CAME_BACK : verdict;
        return verdict;
      }
    }

    /** What NCCL reported of a broken communicator. */
    synchronized int error() {
      return error;
    }
  }
}
