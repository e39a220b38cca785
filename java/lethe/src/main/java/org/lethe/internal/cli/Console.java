package org.lethe.internal.cli;

import java.io.FileDescriptor;
import java.io.FileOutputStream;
import java.io.PrintStream;
import java.nio.charset.StandardCharsets;
import java.util.function.LongSupplier;
import org.lethe.train.StopRequest;

/**
 * What the command line talks to; tests bring their own.
 *
 * @param out results
 * @param err progress and errors
 * @param terminal whether {@code err} is a terminal, on which a line can be redrawn
 * @param nanoTime a monotonic clock, in nanoseconds
 * @param stop asked by signals, heard by runs
 */
public record Console(
    PrintStream out, PrintStream err, boolean terminal, LongSupplier nanoTime, StopRequest stop) {
  /**
   * The process's own streams, in UTF-8 whatever the locale. {@code ./lethe} says by a property
   * whether there is a terminal.
   */
  static Console system() {
    return new Console(
        stream(FileDescriptor.out),
        stream(FileDescriptor.err),
        Boolean.getBoolean("lethe.terminal"),
        System::nanoTime,
        new StopRequest());
  }

  private static PrintStream stream(FileDescriptor descriptor) {
    return new PrintStream(new FileOutputStream(descriptor), true, StandardCharsets.UTF_8);
  }
}
