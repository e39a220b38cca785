package org.lethe.kernels;

import org.bytedeco.javacpp.LongPointer;
import org.lethe.internal.abi.Abi;

/**
 * Ops that were captured once ({@link Backend#capture}) and can be asked for again as one. What
 * they were given is kept, sizes and refs alike; what the refs point at is read when the graph
 * runs. Only the backend's thread may call it.
 */
public final class Graph implements AutoCloseable {
  private final Backend backend;
  private final long id;
  private boolean closed;

  private Graph(Backend backend, long id) {
    this.backend = backend;
    this.id = id;
  }

  static Graph capture(Backend backend, Runnable ops) {
    NativeStatus.check(Abi.lethe_graph_begin(backend.handle()));
    try (LongPointer out = new LongPointer(1)) {
      try {
        ops.run();
      } catch (RuntimeException e) {
        // There is no graph after a failure; this ends the capture.
        Abi.lethe_graph_end(backend.handle(), out);
        throw e;
      }
      NativeStatus.check(Abi.lethe_graph_end(backend.handle(), out));
      return new Graph(backend, out.get());
    }
  }

  /** All its ops once more, behind what was asked before. */
  public void launch() {
    NativeStatus.check(Abi.lethe_graph_launch(backend.handle(), id));
  }

  @Override
  public void close() {
    if (!closed && !backend.isClosed()) {
      NativeStatus.check(Abi.lethe_graph_close(backend.handle(), id));
    }
    closed = true;
  }
}
