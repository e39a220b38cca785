package org.lethe.model;

import org.lethe.kernels.Activation;
import org.lethe.kernels.Ops;

/**
 * The feed-forward part of a layer, forward and backward.
 *
 * <pre>
 * n = norm(m)                            or, in parallel, the attention's n
 * h = n·Wguᵀ + b;  a = act(gate)·up      or act(h) where it is not gated
 * x = m + a·Wdownᵀ + b                   or m + norm(a·Wdownᵀ + b)
 * </pre>
 */
final class FeedForwardBlock {
  private final ModelConfig c;
  private final Ops ops;
  private final Activations a;
  private final NormRunner norms;
  private final SourceRows sources;

  FeedForwardBlock(Model model, Activations activations, NormRunner norms, SourceRows sources) {
    this.c = model.config();
    this.ops = model.ops();
    this.a = activations;
    this.norms = norms;
    this.sources = sources;
  }

  /**
   * Reads the middle of the residual stream, or in parallel what the attention's norm left, and
   * writes the stream that leaves the layer.
   *
   * @param tokens of the batch
   * @param span which of its rows the middle has, and the stream will have
   */
  void forward(
      int l,
      Activations.Slot s,
      Projections.Layer layer,
      int tokens,
      SourceRows.Span span,
      long next) {
    inner(l, s, layer, tokens, span);
    long middle = a.at(s.middle());
    int rows = span.rows();
    activate(rows, a.at(s.inner()));
    boolean after = c.norms().after();
    long out = after ? a.at(s.feedForwardOut()) : next;
    ops.linear()
        .forward(
            layer.down().linear(),
            rows,
            span.adapted(),
            a.act(),
            after ? 0 : middle,
            out,
            a.rowKeys(span),
            a.at(s.uDown()));
    if (after) {
      norms.forward(afterNorm(l), rows, out, middle, next, a.kept(s.feedForwardNorm()));
    }
  }

  /**
   * Computes again what the backward pass reads and was not kept: all rows are adapted.
   *
   * @param next where the stream that leaves the layer stands
   */
  void forwardAgain(
      int l,
      Activations.Slot s,
      Projections.Layer layer,
      int tokens,
      SourceRows.Span span,
      long next) {
    if (c.norms().after()) {
      // The norm's backward pass reads what the last projection gave.
      forward(l, s, layer, tokens, span, next);
    } else {
      inner(l, s, layer, tokens, span);
    }
  }

  private void inner(
      int l, Activations.Slot s, Projections.Layer layer, int tokens, SourceRows.Span span) {
    long normed;
    if (c.feedForward().parallel()) {
      normed = sharedNormed(tokens, span);
    } else {
      normed = a.normed();
      norms.forward(norm(l), span.rows(), a.at(s.middle()), 0, normed, a.kept(s.middleNorm()));
    }
    ops.linear()
        .forward(
            layer.gateUp().linear(),
            span.rows(),
            span.adapted(),
            normed,
            0,
            a.at(s.inner()),
            a.rowKeys(span),
            a.at(s.uGateUp()));
  }

  /** The rows of what the attention's norm left for all tokens. */
  private long sharedNormed(int tokens, SourceRows.Span span) {
    if (!span.gathered()) {
      return a.normed();
    }
    sources.gather(span, c.hiddenSize(), tokens, a.normed(), a.act());
    return a.act();
  }

  /**
   * Adds the gradient through this part to that of the residual stream. In parallel, the gradient
   * at the shared norm waits in {@code dNormed}: the attention still reads the stream's as it is.
   *
   * @param tokens trained ones of the batch
   * @param span which of their rows the gradient has
   * @param wanted whether anything below the shared norm wants a gradient
   */
  void backward(
      int l,
      Activations.Slot s,
      Projections.Layer layer,
      int tokens,
      SourceRows.Span span,
      boolean wanted) {
    int rows = span.rows();
    long inner = a.at(s.inner());
    long middle = a.at(s.middle());
    activate(rows, inner);
    long dOut = a.dResidual();
    if (c.norms().after()) {
      long out = a.at(s.feedForwardOut());
      NormRunner.Kept kept = a.kept(s.feedForwardNorm());
      norms.backward(afterNorm(l), rows, dOut, out, kept, a.dNormed(), false);
      dOut = a.dNormed();
    }
    ops.linear()
        .backward(
            layer.down().linear(),
            rows,
            a.act(),
            a.at(s.uDown()),
            dOut,
            a.rowKeys(span),
            a.du(),
            a.dAct());
    activateBackward(rows, inner);
    boolean parallel = c.feedForward().parallel();
    long normed = a.normed();
    if (parallel) {
      String shared = ParameterNames.module(l, c.modules().inputNorm());
      norms.forward(shared, tokens, a.at(s.x()), 0, normed, NormRunner.Kept.NOTHING);
      normed = sharedNormed(tokens, span);
    } else {
      norms.forward(norm(l), rows, middle, 0, normed, NormRunner.Kept.NOTHING);
    }
    ops.linear()
        .backward(
            layer.gateUp().linear(),
            rows,
            normed,
            a.at(s.uGateUp()),
            inner,
            a.rowKeys(span),
            a.du(),
            wanted || !parallel ? a.dNormed() : 0);
    if (!parallel) {
      NormRunner.Kept kept = a.kept(s.middleNorm());
      norms.backward(norm(l), rows, a.dNormed(), middle, kept, a.dResidual(), true);
    }
  }

  private void activate(int tokens, long inner) {
    Activation activation = c.feedForward().activation();
    if (c.feedForward().gated()) {
      ops.gatedForward(activation, tokens, c.feedForwardSize(), inner, a.act());
    } else {
      ops.activationForward(activation, tokens, c.feedForwardSize(), inner, a.act());
    }
  }

  /** From {@code dAct} to the gradient of {@code inner}, in its place. */
  private void activateBackward(int tokens, long inner) {
    Activation activation = c.feedForward().activation();
    if (c.feedForward().gated()) {
      ops.gatedBackward(activation, tokens, c.feedForwardSize(), inner, a.dAct(), inner);
    } else {
      ops.activationBackward(activation, tokens, c.feedForwardSize(), inner, a.dAct(), inner);
    }
  }

  private String norm(int layer) {
    return ParameterNames.module(layer, c.modules().feedForwardNorm());
  }

  private String afterNorm(int layer) {
    return ParameterNames.module(layer, c.modules().feedForwardAfterNorm());
  }
}
