package org.lethe.model;

import org.lethe.InternalFaultException;
import org.lethe.kernels.Ops;

/**
 * The rows of a batch that the head looks at, and the way there and back: behind its attention the
 * last layer has nothing to do but for these, so its output projection and its feed-forward part
 * run on them alone. Only the backend's thread may call it.
 */
final class SourceRows {
  private final Ops ops;
  private final Activations a;
  private int[] tokens = new int[0];

  SourceRows(Ops ops, Activations activations) {
    this.ops = ops;
    this.a = activations;
  }

  /**
   * Rows that an output projection and a feed-forward part run on.
   *
   * @param rows how many
   * @param adapted the adapters act on that many of the front
   * @param gathered whether they are the head's sources and not the batch's tokens
   */
  record Span(int rows, int adapted, boolean gathered) {
    static Span tokens(int tokens, int adapted) {
      return new Span(tokens, adapted, false);
    }
  }

  /**
   * Takes the sources of a batch, the trained ones first, whose token indices are on the device.
   */
  void set(int[] sourceTokens) {
    tokens = sourceTokens;
  }

  /** All of them; the adapters act on those of the first {@code adapted} tokens. */
  Span all(int adapted) {
    return new Span(tokens.length, front(adapted), true);
  }

  /** Those of the first tokens, which all are adapted. */
  Span trained(int trainedTokens) {
    int front = front(trainedTokens);
    return new Span(front, front, true);
  }

  private int front(int ofTokens) {
    int front = 0;
    while (front < tokens.length && tokens[front] < ofTokens) {
      front++;
    }
    for (int i = front; i < tokens.length; i++) {
      if (tokens[i] < ofTokens) {
        throw new InternalFaultException(
            "source " + i + " is a trained token, but stands behind one that is not");
      }
    }
    return front;
  }

  /** {@code to[rows, width]}: those rows of {@code from[batchTokens, width]}. */
  void gather(Span span, int width, int batchTokens, long from, long to) {
    ops.gatherRows(span.rows(), width, batchTokens, from, width, a.sources(), to, width);
  }

  /** {@code to[batchTokens, width]}: {@code from} at those rows, 0 elsewhere. */
  void spread(Span span, int width, int batchTokens, long from, long to) {
    ops.zero(to, bytes(batchTokens, width));
    ops.scatterRows(span.rows(), width, batchTokens, from, width, a.sources(), to, width);
  }

  /**
   * Spreads rows out in their own place.
   *
   * @param scratch of at least as many elements as the rows have
   */
  void spreadInPlace(Span span, int width, int batchTokens, long rows, long scratch) {
    ops.copy(scratch, rows, bytes(span.rows(), width));
    spread(span, width, batchTokens, scratch, rows);
  }

  private long bytes(int rows, int width) {
    return (long) rows * width * ops.dtype().bytes();
  }
}
