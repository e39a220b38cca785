package org.lethe.train;

import java.util.Iterator;
import java.util.LinkedHashMap;
import java.util.Map;
import org.lethe.UserException;
import org.lethe.kernels.Graph;
import org.lethe.method.Method;
import org.lethe.method.Use;
import org.lethe.model.Decoder;
import org.lethe.model.Head;
import org.lethe.model.Model;
import org.lethe.model.ShapeBucket;
import org.lethe.model.View;

/**
 * The device work of a piece, forward and backward, launched op by op or as two graphs for each
 * {@link ShapeBucket}: forward and head, and, when the method has answered with its coefficients,
 * the head's and the decoder's backward pass.
 *
 * <p>The first piece of a shape runs op by op, so that scratch memory has its size and matrix
 * kernels are chosen; the second one is captured. Either way the piece is filled up: its bits do
 * not depend on what ran before. A piece whose shape no key describes runs as it is.
 */
final class StepGraphs implements AutoCloseable {
  /** Shapes that are remembered: the one that was used longest ago makes room. */
  private static final int MOST_SHAPES = 32;

  private final Model model;
  private final Decoder decoder;
  private final Head head;
  private final boolean fills;
  private final Map<Shape, Captured> shapes = new LinkedHashMap<>(16, 0.75f, true);
  private ShapeBucket bucket;
  private Captured current;
  private int captures;
  private int evictions;
  private int launches;
  private int unfilled;
  private int mostShapes = MOST_SHAPES;

  private record Shape(View view, ShapeBucket.Key key) {}

  private static final class Captured implements AutoCloseable {
    private Graph forward;
    private Graph backward;
    private boolean ranForward;
    private boolean ranBackward;

    @Override
    public void close() {
      if (forward != null) {
        forward.close();
      }
      if (backward != null) {
        backward.close();
      }
    }
  }

  StepGraphs(Model model, TrainSettings settings, Decoder decoder, Head head) {
    this.model = model;
    this.decoder = decoder;
    this.head = head;
    this.fills = used(model, settings);
  }

  /** Whether pieces are filled up to shapes that graphs can be captured of. */
  static boolean used(Model model, TrainSettings settings) {
    return settings.graphs() != Graphs.NEVER
        && model.ops().backend().hasGraphs()
        && !moves(settings)
        && !fuses(model);
  }

  /** An update's learning rate and count are scalars, which a graph would keep as they were. */
  static boolean fuses(Model model) {
    return model.trainable() != null && model.trainable().fused() != null;
  }

  /** Copies beside the device's work are none that a graph can capture. */
  private static boolean moves(TrainSettings settings) {
    return settings.memory().activations() == MemorySettings.Activations.OFFLOAD;
  }

  /**
   * Refuses {@code train.graphs=always} where no graph could be captured.
   *
   * @throws UserException when it is on, and the backend, the method or the settings rule it out
   */
  static void require(Model model, Method method, TrainSettings settings) {
    if (settings.graphs() != Graphs.ALWAYS) {
      return;
    }
    String why = null;
    if (!model.ops().backend().hasGraphs()) {
      why = "the CPU launches nothing; use a CUDA device";
    } else if (fuses(model)) {
      why = "train.fused_update updates inside the backward pass; set it to false";
    } else if (moves(settings)) {
      why = "memory.activations=offload moves activations beside it; set it to recompute";
    } else if (!settings.parity().padding().isNone()) {
      why = "parity.padding has batches of other shapes; set parity.padding=none";
    } else if (method.uses().stream().anyMatch(StepGraphs::otherPasses)) {
      why = method.name() + " compares with other models than the base, in passes of their own";
    }
    if (why != null) {
      throw new UserException(
          "train.graphs=always: " + why + ", or set train.graphs=auto or never");
    }
  }

  private static boolean otherPasses(Use use) {
    return !use.view().equals(Use.BASE)
        || !use.sources().trained()
        || use.sources().counterpart()
        || use.sources().second() != null;
  }

  /** The statistics of a piece's head rows, and what its backward pass needs. */
  float[] forward(MicroBatch piece) {
    bucket = null;
    if (fills && ShapeBucket.fits(piece.packed(), piece.headRows())) {
      ShapeBucket filled = ShapeBucket.of(piece.packed(), piece.headRows());
      if (filled.packed().tokens() <= decoder.capacity()
          && filled.headRows().rows() <= head.capacity()) {
        bucket = filled;
      }
    }
    if (bucket == null) {
      unfilled++;
      long stream = decoder.forward(piece.packed(), piece.headRows().sourceTokens());
      return head.forward(stream, piece.headRows(), true);
    }
    current = captured(new Shape(model.view(), bucket.key()));
    decoder.upload(bucket.packed(), bucket.headRows().sourceTokens());
    head.upload(bucket.headRows());
    if (current.forward == null && current.ranForward) {
      current.forward = captured(this::runForward);
    }
    if (current.forward == null) {
      runForward();
    } else {
      launch(current.forward);
    }
    current.ranForward = true;
    return bucket.ofReal(head.statistics());
  }

  /** The backward pass of the piece that was run last. */
  void backward(float[] coefficients) {
    if (bucket == null) {
      head.backward(decoder, coefficients);
      decoder.backward();
      return;
    }
    head.uploadCoefficients(bucket.ofAll(coefficients));
    if (current.backward == null && current.ranBackward) {
      current.backward = captured(this::runBackward);
    }
    if (current.backward == null) {
      runBackward();
    } else {
      launch(current.backward);
    }
    current.ranBackward = true;
  }

  private void runForward() {
    head.run(decoder.run(), true);
  }

  private void runBackward() {
    head.runBackward(decoder);
    decoder.backward();
  }

  private Graph captured(Runnable ops) {
    captures++;
    return model.ops().backend().capture(ops);
  }

  private void launch(Graph graph) {
    launches++;
    graph.launch();
  }

  private Captured captured(Shape shape) {
    Captured found = shapes.computeIfAbsent(shape, s -> new Captured());
    if (shapes.size() > mostShapes) {
      Iterator<Captured> oldest = shapes.values().iterator();
      oldest.next().close();
      oldest.remove();
      evictions++;
    }
    return found;
  }

  /** Graphs that were captured so far. */
  int captures() {
    return captures;
  }

  /** Shapes that were forgotten so far. */
  int evictions() {
    return evictions;
  }

  /** How often a graph was launched so far. */
  int launches() {
    return launches;
  }

  /** Pieces that ran as they were, op by op. */
  int unfilled() {
    return unfilled;
  }

  /** Remembers so many shapes from now on. */
  void keep(int most) {
    mostShapes = most;
  }

  /** Closes all graphs: the next piece of each shape runs op by op. */
  void forget() {
    shapes.values().forEach(Captured::close);
    shapes.clear();
  }

  @Override
  public void close() {
    forget();
  }
}
