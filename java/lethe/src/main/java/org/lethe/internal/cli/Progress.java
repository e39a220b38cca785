package org.lethe.internal.cli;

import java.io.PrintStream;
import java.util.Locale;
import java.util.concurrent.TimeUnit;
import java.util.function.LongSupplier;

/**
 * Shows how far a loop is: on a terminal one line that is redrawn, elsewhere a plain line at
 * intervals. Prints to the console's error stream, so that results stay alone on the other one. One
 * thread at a time.
 */
public final class Progress implements AutoCloseable {
  private static final int BAR_WIDTH = 24;
  private static final long REDRAW_NANOS = TimeUnit.MILLISECONDS.toNanos(100);
  private static final long LINE_NANOS = TimeUnit.SECONDS.toNanos(10);

  private final PrintStream err;
  private final boolean terminal;
  private final LongSupplier nanoTime;
  private final String label;
  private final long total;
  private final long started;
  private long shownAt;
  private long shownStep = -1;
  private int shownLength;
  private long step;
  private long tokens;
  private double loss = Double.NaN;

  /**
   * Starts the clock; prints nothing yet.
   *
   * @param label what is being done, one word
   * @param total steps to come, at least 1
   */
  public Progress(Console console, String label, long total) {
    if (total < 1) {
      throw new IllegalArgumentException("total must be at least 1, not " + total);
    }
    this.err = console.err();
    this.terminal = console.terminal();
    this.nanoTime = console.nanoTime();
    this.label = label;
    this.total = total;
    this.started = nanoTime.getAsLong();
    this.shownAt = started;
  }

  /**
   * Tells that {@code step} steps are done.
   *
   * @param step from 1 to total
   * @param tokens tokens of this step alone
   * @param loss this step's loss; NaN where there is none
   */
  public void update(long step, long tokens, double loss) {
    this.step = step;
    this.tokens += tokens;
    this.loss = loss;
    long now = nanoTime.getAsLong();
    if (step == total || now - shownAt >= (terminal ? REDRAW_NANOS : LINE_NANOS)) {
      show(now);
    }
  }

  /** Shows the last state if it was not shown yet, and ends the line. */
  @Override
  public void close() {
    if (step > 0 && shownStep != step) {
      show(nanoTime.getAsLong());
    }
    if (terminal && shownLength > 0) {
      err.println();
    }
    err.flush();
  }

  private void show(long now) {
    String line = line((now - started) / 1e9);
    if (terminal) {
      // Blanks wipe what a longer line left behind.
      int blanks = Math.max(0, shownLength - line.length());
      err.print("\r" + line + " ".repeat(blanks));
      err.flush();
    } else {
      err.println(line);
    }
    shownAt = now;
    shownStep = step;
    shownLength = line.length();
  }

  private String line(double seconds) {
    StringBuilder line = new StringBuilder(label);
    if (terminal) {
      int filled = (int) (BAR_WIDTH * step / total);
      line.append(" [").append("=".repeat(filled)).append(" ".repeat(BAR_WIDTH - filled));
      line.append(']');
    }
    line.append(String.format(Locale.ROOT, " %d/%d", step, total));
    if (!Double.isNaN(loss)) {
      line.append(String.format(Locale.ROOT, "  loss %.4f", loss));
    }
    if (seconds > 0 && tokens > 0) {
      line.append(String.format(Locale.ROOT, "  %.0f tokens/s", tokens / seconds));
    }
    if (step == total) {
      line.append("  took ").append(duration(seconds));
    } else {
      line.append("  ETA ").append(duration(seconds * (total - step) / step));
    }
    return line.toString();
  }

  /** {@code m:ss}, or {@code h:mm:ss} from an hour on. */
  static String duration(double seconds) {
    long whole = Math.round(seconds);
    return whole < 3600
        ? String.format(Locale.ROOT, "%d:%02d", whole / 60, whole % 60)
        : String.format(Locale.ROOT, "%d:%02d:%02d", whole / 3600, whole / 60 % 60, whole % 60);
  }
}
