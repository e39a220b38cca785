package org.lethe.model;

import org.lethe.kernels.NormKind;
import org.lethe.kernels.NormShape;
import org.lethe.kernels.Ops;

/** The norms of a model: one kind, with or without a bias, by the names of their modules. */
final class NormRunner {
  private final Model model;
  private final ModelConfig c;
  private final Ops ops;

  /**
   * Refs of what a forward pass keeps of a norm for the backward pass.
   *
   * @param mean fp32, one a vector; 0: not kept
   * @param rstd fp32, one a vector; 0: not kept
   */
  record Kept(long mean, long rstd) {
    static final Kept NOTHING = new Kept(0, 0);
  }

  NormRunner(Model model) {
    this.model = model;
    this.c = model.config();
    this.ops = model.ops();
  }

  /** {@code y[rows, d] = norm(x[rows, d])}, plus {@code residual} where that is not 0. */
  void forward(String module, int rows, long x, long residual, long y, Kept kept) {
    ops.normForward(
        hidden(rows), x, weight(module), bias(module), residual, y, kept.mean(), kept.rstd());
  }

  /**
   * The gradient through a norm over the hidden state, and those of its parameters when they train.
   *
   * @param accumulate whether {@code dx} is added to, or written
   */
  void backward(String module, int rows, long dy, long x, Kept kept, long dx, boolean accumulate) {
    ops.normBackward(
        hidden(rows),
        dy,
        x,
        weight(module),
        kept.mean(),
        kept.rstd(),
        dx,
        c.hiddenSize(),
        accumulate,
        model.gradient(module + ".weight"),
        hasBias() ? model.gradient(module + ".bias") : 0);
  }

  /**
   * The gradient of {@code n} head rows through the norm before the head, and those of the norm's
   * parameters when they train.
   *
   * @param sources how many vectors there are
   * @param x what the norm read
   * @param dx takes the gradient, [sources, d]
   */
  void headBackward(
      String module,
      int sources,
      int n,
      long rows,
      long coefficients,
      long dhRows,
      long x,
      Kept kept,
      long dx) {
    ops.head()
        .normBackward(
            hidden(sources),
            n,
            rows,
            coefficients,
            dhRows,
            x,
            weight(module),
            kept.mean(),
            kept.rstd(),
            dx,
            model.gradient(module + ".weight"),
            hasBias() ? model.gradient(module + ".bias") : 0);
  }

  /** Norms each head of q or k: from {@code x} to {@code y}, both in rows of q, k and v. */
  void headsForward(String module, int rows, int heads, long x, long y, Kept kept) {
    ops.normForward(
        heads(rows, heads), x, weight(module), bias(module), 0, y, kept.mean(), kept.rstd());
  }

  /** The gradient through {@link #headsForward}, in place in {@code dy}. */
  void headsBackward(String module, int rows, int heads, long dy, long x, Kept kept) {
    ops.normBackward(
        heads(rows, heads),
        dy,
        x,
        weight(module),
        kept.mean(),
        kept.rstd(),
        dy,
        c.qkvWidth(),
        false,
        model.gradient(module + ".weight"),
        hasBias() ? model.gradient(module + ".bias") : 0);
  }

  private NormShape hidden(int rows) {
    long d = c.hiddenSize();
    ModelConfig.Norms n = c.norms();
    return new NormShape(n.kind(), rows, 1, d, n.eps(), n.weightShift(), d, d);
  }

  private NormShape heads(int rows, int heads) {
    long stride = c.qkvWidth();
    ModelConfig.Norms n = c.norms();
    return new NormShape(
        n.kind(), rows, heads, c.headDim(), n.eps(), n.weightShift(), stride, stride);
  }

  private long weight(String module) {
    return model.weight(module + ".weight");
  }

  private long bias(String module) {
    return hasBias() ? model.weight(module + ".bias") : 0;
  }

  private boolean hasBias() {
    return c.norms().kind() == NormKind.LAYER;
  }
}
