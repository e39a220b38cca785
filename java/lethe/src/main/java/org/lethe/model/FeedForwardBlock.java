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

  FeedForwardBlock(Model model, Activations activations, NormRunner norms) {
    this.c = model.config();
    this.ops = model.ops();
    this.a = activations;
    this.norms = norms;
  }

  /**
   * Reads the middle of the residual stream, or in parallel what the attention's norm left, and
   * writes the stream that leaves the layer.
   */
  void forward(int l, Activations.Slot s, Model.Layer layer, int tokens, int adapted, long next) {
    inner(l, s, layer, tokens, adapted);
    long middle = a.at(s.middle());
    activate(tokens, a.at(s.inner()));
    long down = layer.down().linear();
    if (!c.norms().after()) {
      ops.linearForward(down, tokens, adapted, a.act(), middle, next, a.rowKeys(), a.at(s.uDown()));
      return;
    }
    long out = a.at(s.feedForwardOut());
    ops.linearForward(down, tokens, adapted, a.act(), 0, out, a.rowKeys(), a.at(s.uDown()));
    norms.forward(afterNorm(l), tokens, out, middle, next, a.kept(s.feedForwardNorm()));
  }

  /**
   * Computes again what the backward pass reads and was not kept: all rows are adapted.
   *
   * @param next where the stream that leaves the layer stands
   */
  void forwardAgain(int l, Activations.Slot s, Model.Layer layer, int tokens, long next) {
    if (c.norms().after()) {
      // The norm's backward pass reads what the last projection gave.
      forward(l, s, layer, tokens, tokens, next);
    } else {
      inner(l, s, layer, tokens, tokens);
    }
  }

  private void inner(int l, Activations.Slot s, Model.Layer layer, int tokens, int adapted) {
    if (!c.feedForward().parallel()) {
      norms.forward(norm(l), tokens, a.at(s.middle()), 0, a.normed(), a.kept(s.middleNorm()));
    }
    ops.linearForward(
        layer.gateUp().linear(),
        tokens,
        adapted,
        a.normed(),
        0,
        a.at(s.inner()),
        a.rowKeys(),
        a.at(s.uGateUp()));
  }

  /**
   * Adds the gradient through this part to that of the residual stream. In parallel, the gradient
   * at the shared norm waits in {@code dNormed}: the attention still reads the stream's as it is.
   *
   * @param wanted whether anything below the shared norm wants a gradient
   */
  void backward(int l, Activations.Slot s, Model.Layer layer, int tokens, boolean wanted) {
    long inner = a.at(s.inner());
    long middle = a.at(s.middle());
    activate(tokens, inner);
    long dOut = a.dResidual();
    if (c.norms().after()) {
      long out = a.at(s.feedForwardOut());
      NormRunner.Kept kept = a.kept(s.feedForwardNorm());
      norms.backward(afterNorm(l), tokens, dOut, out, kept, a.dNormed(), false);
      dOut = a.dNormed();
    }
    ops.linearBackward(
        layer.down().linear(),
        tokens,
        a.act(),
        a.at(s.uDown()),
        dOut,
        a.rowKeys(),
        a.du(),
        a.dAct());
    activateBackward(tokens, inner);
    boolean parallel = c.feedForward().parallel();
    String norm = parallel ? ParameterNames.module(l, c.modules().inputNorm()) : norm(l);
    long normInput = parallel ? a.at(s.x()) : middle;
    norms.forward(norm, tokens, normInput, 0, a.normed(), NormRunner.Kept.NOTHING);
    ops.linearBackward(
        layer.gateUp().linear(),
        tokens,
        a.normed(),
        a.at(s.uGateUp()),
        inner,
        a.rowKeys(),
        a.du(),
        wanted || !parallel ? a.dNormed() : 0);
    if (!parallel) {
      NormRunner.Kept kept = a.kept(s.middleNorm());
      norms.backward(norm, tokens, a.dNormed(), middle, kept, a.dResidual(), true);
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
