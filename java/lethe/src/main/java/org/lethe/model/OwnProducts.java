package org.lethe.model;

import java.util.ArrayList;
import java.util.List;
import org.lethe.kernels.Arena;
import org.lethe.kernels.Ops;

/**
 * The matrix products of a step with frozen weights, alone: what a measurement compares a step
 * with. Values are zeros but for the weights; on a host a product takes as long. Only the backend's
 * thread may call it.
 */
public final class OwnProducts implements AutoCloseable {
  private final Ops ops;
  private final int tokens;
  private final int sources;
  private final int layers;
  private final Arena arena;
  private final long narrow;
  private final long gradient;
  private final long wide;
  private final List<Long> linears = new ArrayList<>();
  private final long head;

  /**
   * Takes the memory of the widest product.
   *
   * @param tokens of the step
   * @param sources of them, the tokens that the head looks at
   * @param chunk head rows at a time
   */
  public OwnProducts(Model model, int tokens, int sources, int chunk) {
    this.ops = model.ops();
    this.tokens = tokens;
    this.sources = sources;
    ModelConfig c = model.config();
    this.layers = c.layers();
    int widest = c.hiddenSize();
    for (int layer = 0; layer < c.layers(); layer++) {
      for (Projection.Group group : ModelLayout.groups(c)) {
        widest = Math.max(widest, Math.max(group.out(), group.in()));
        linears.add(model.linear(layer, group));
      }
    }
    this.head =
        ops.linear().create(c.vocabularySize(), c.hiddenSize(), model.headWeight(), 0, 0, 0);
    this.arena = new Arena(ops.backend(), "products");
    long rows = Math.max((long) tokens * widest, (long) chunk * c.vocabularySize());
    long n = arena.reserve((long) Math.max(tokens, chunk) * widest, ops.dtype());
    long g = arena.reserve((long) Math.max(tokens, chunk) * widest, ops.dtype());
    long w = arena.reserve(rows, ops.dtype());
    arena.allocate();
    this.narrow = arena.at(n);
    this.gradient = arena.at(g);
    this.wide = arena.at(w);
  }

  /** Every linear of every layer, forward and back to its input. */
  public void layers() {
    for (int i = 0; i < linears.size(); i++) {
      int rows = rows(i);
      ops.linear().forward(linears.get(i), rows, rows, narrow, 0, wide, 0, 0);
    }
    for (int i = linears.size() - 1; i >= 0; i--) {
      // Nothing below the first product wants a gradient.
      if (i > 0) {
        ops.linear().backward(linears.get(i), rows(i), narrow, 0, wide, 0, 0, gradient);
      }
    }
  }

  /** Behind the last layer's first product only the head's rows are left. */
  private int rows(int linear) {
    return linear > (layers - 1) * linears.size() / layers ? sources : tokens;
  }

  /** The head's two products over some rows. */
  public void head(int rows) {
    ops.linear().forward(head, rows, rows, narrow, 0, wide, 0, 0);
    ops.linear().backward(head, rows, narrow, 0, wide, 0, 0, gradient);
  }

  @Override
  public void close() {
    linears.forEach(ops.linear()::close);
    ops.linear().close(head);
    arena.close();
  }
}
