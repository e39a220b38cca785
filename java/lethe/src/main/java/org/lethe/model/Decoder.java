package org.lethe.model;

import java.util.List;
import org.lethe.InternalFaultException;
import org.lethe.UserException;
import org.lethe.kernels.Activation;
import org.lethe.kernels.Ops;
import org.lethe.kernels.Staging;

/**
 * The forward and the backward pass of a Llama, op by op.
 *
 * <pre>
 * x₀ = embedding[ids]
 * for each layer: n = norm(x);  q|k|v = n·Wqkvᵀ;  rotate q, k;  a = attention(q, k, v);  m = x + a·Woᵀ
 *                 n = norm(m);  g|u = n·Wguᵀ;  x = m + (silu(g)·u)·Wdownᵀ
 * </pre>
 *
 * The final norm and the logits belong to {@link Head}: only rows that a loss looks at go there.
 * Only the backend's thread may call it.
 */
public final class Decoder implements AutoCloseable {
  private final Model model;
  private final ModelConfig c;
  private final Ops ops;
  private final Activations a;
  private final Staging staging;
  private PackedBatch batch;
  private List<Model.Layer> layers;

  /**
   * Takes the memory of the largest batch.
   *
   * @param tokens the most tokens of one batch: memory is taken for that many, now
   * @param backward whether {@link #backward} will be called
   */
  public Decoder(Model model, int tokens, boolean backward) {
    this.model = model;
    this.c = model.config();
    this.ops = model.ops();
    this.a = new Activations(model, tokens, backward);
    this.staging = new Staging(tokens * Ops.SEGMENT_FIELDS * Integer.BYTES);
  }

  /** Tokens of the largest batch. */
  public int capacity() {
    return a.tokens();
  }

  /** Bytes of the activations. */
  public long bytes() {
    return a.bytes();
  }

  /**
   * Runs all layers. Adapters act on the trained sequences alone.
   *
   * @return the ref of the residual stream after the last layer, [T, d]
   */
  public long forward(PackedBatch packed) {
    return forward(packed, packed.trainedTokens());
  }

  /**
   * Runs all layers.
   *
   * @param adapted the adapters act on that many tokens of the front
   */
  public long forward(PackedBatch packed, int adapted) {
    if (adapted < packed.tokens() && !model.reference().equals(View.BASE)) {
      throw new InternalFaultException(
          "the rows without adapters are the base, but the reference is another view: it needs a"
              + " pass of its own");
    }
    return forward(model.view(), packed, adapted);
  }

  /**
   * Runs all layers in another view than the model's own; the backward pass is not for this. It
   * writes where {@link #forward(PackedBatch)} does: what a loss needs of it is copied away before
   * the batch that trains is run ({@link Head#gather}).
   *
   * @return the ref of the residual stream after the last layer, [T, d]
   */
  public long forward(View view, PackedBatch packed) {
    return forward(view, packed, packed.tokens());
  }

  private long forward(View view, PackedBatch packed, int adapted) {
    upload(packed);
    layers = model.layers(view);
    int tokens = packed.tokens();
    long d = c.hiddenSize();
    long x = a.at(a.slot(0).x());
    ops.embeddingForward(
        tokens,
        d,
        c.vocabularySize(),
        1f,
        model.weight(ParameterNames.EMBEDDING),
        a.at(a.idsOffset()),
        x);
    for (int l = 0; l < c.layers(); l++) {
      Activations.Slot s = a.slot(l);
      long next = a.at(a.slot(l + 1).x());
      attentionForward(l, s, tokens, adapted, null);
      feedForward(l, s, tokens, adapted, next);
    }
    return a.at(a.slot(c.layers()).x());
  }

  /**
   * Runs all layers on new tokens of cached sequences, whose keys and values join the cache.
   *
   * @param step which rows of the cache each sequence reads and writes
   * @return the ref of the residual stream after the last layer, [T, d]
   */
  long forwardCached(View view, PackedBatch packed, KvCache.Step step) {
    upload(packed);
    layers = model.layers(view);
    int adapted = packed.tokens();
    staging.upload(step.segments(), step.segments().length, a.arena().buffer(), a.segmentsOffset());
    staging.upload(
        step.positions(), step.positions().length, a.arena().buffer(), a.positionsOffset());
    ops.embeddingForward(
        packed.tokens(),
        c.hiddenSize(),
        c.vocabularySize(),
        1f,
        model.weight(ParameterNames.EMBEDDING),
        a.at(a.idsOffset()),
        a.at(a.slot(0).x()));
    for (int l = 0; l < c.layers(); l++) {
      Activations.Slot s = a.slot(l);
      attentionForward(l, s, packed.tokens(), adapted, step);
      feedForward(l, s, packed.tokens(), adapted, a.at(a.slot(l + 1).x()));
    }
    return a.at(a.slot(c.layers()).x());
  }

  /**
   * The ref of d(loss)/d(residual stream), [trained tokens, d]: filled by {@link Head} before
   * {@link #backward}.
   */
  long residualGradient() {
    return a.dResidual();
  }

  /**
   * From the gradient at {@link #residualGradient} down to the adapters, or to every weight when
   * they train.
   */
  public void backward() {
    int tokens = batch.trainedTokens();
    for (int l = c.layers() - 1; l >= 0; l--) {
      Activations.Slot s = a.slot(l);
      feedForwardBackward(l, s, tokens);
      attentionBackward(l, s, tokens);
    }
    if (model.trainsWeights()) {
      ops.embeddingBackward(
          tokens,
          c.hiddenSize(),
          c.vocabularySize(),
          1f,
          a.dResidual(),
          a.at(a.idsOffset()),
          model.gradient(ParameterNames.EMBEDDING));
    }
  }

  private void attentionForward(
      int l, Activations.Slot s, int tokens, int adapted, KvCache.Step cached) {
    Model.Layer layer = layers.get(l);
    long x = a.at(s.x());
    long qkv = a.at(s.qkv());
    norm(ParameterNames.weight(l, c.modules().inputNorm()), tokens, x, a.at(s.rstdIn()));
    ops.linearForward(layer.qkv().linear(), tokens, adapted, a.normed(), 0, qkv, 0, a.at(s.uQkv()));
    rotate(tokens, qkv, false);
    if (cached == null) {
      long k = qkv + bytes(c.queryWidth());
      Ops.AttentionShape shape = shape(batch.sequences(), tokens, tokens, c.qkvWidth());
      ops.attentionForward(
          shape, qkv, k, k + bytes(c.kvWidth()), a.at(s.attention()), a.at(s.lse()));
    } else {
      long k = cached.cache().keys(l);
      cached.cache().append(ops, l, tokens, qkv + bytes(c.queryWidth()), c.qkvWidth());
      Ops.AttentionShape shape =
          shape(batch.sequences(), tokens, cached.cache().rows(), 2L * c.kvWidth());
      ops.attentionForward(shape, qkv, k, k + bytes(c.kvWidth()), a.at(s.attention()), 0);
    }
    ops.linearForward(
        layer.o().linear(),
        tokens,
        adapted,
        a.at(s.attention()),
        x,
        a.at(s.middle()),
        0,
        a.at(s.uO()));
  }

  private void feedForward(int l, Activations.Slot s, int tokens, int adapted, long next) {
    Model.Layer layer = layers.get(l);
    long middle = a.at(s.middle());
    long gateUp = a.at(s.gateUp());
    norm(
        ParameterNames.weight(l, c.modules().feedForwardNorm()),
        tokens,
        middle,
        a.at(s.rstdMiddle()));
    ops.linearForward(
        layer.gateUp().linear(), tokens, adapted, a.normed(), 0, gateUp, 0, a.at(s.uGateUp()));
    ops.gatedForward(Activation.SILU, tokens, c.feedForwardSize(), gateUp, a.act());
    ops.linearForward(
        layer.down().linear(), tokens, adapted, a.act(), middle, next, 0, a.at(s.uDown()));
  }

  private void feedForwardBackward(int l, Activations.Slot s, int tokens) {
    Model.Layer layer = model.layer(l);
    long middle = a.at(s.middle());
    long gateUp = a.at(s.gateUp());
    String norm = ParameterNames.weight(l, c.modules().feedForwardNorm());
    ops.gatedForward(Activation.SILU, tokens, c.feedForwardSize(), gateUp, a.act());
    ops.linearBackward(
        layer.down().linear(),
        tokens,
        a.act(),
        a.at(s.uDown()),
        a.dResidual(),
        0,
        a.du(),
        a.dAct());
    ops.gatedBackward(Activation.SILU, tokens, c.feedForwardSize(), gateUp, a.dAct(), gateUp);
    norm(norm, tokens, middle, 0);
    ops.linearBackward(
        layer.gateUp().linear(),
        tokens,
        a.normed(),
        a.at(s.uGateUp()),
        gateUp,
        0,
        a.du(),
        a.dNormed());
    ops.normBackward(
        Ops.NormShape.rms(tokens, c.hiddenSize(), c.norms().eps()),
        a.dNormed(),
        middle,
        model.weight(norm),
        0,
        a.at(s.rstdMiddle()),
        a.dResidual(),
        c.hiddenSize(),
        true,
        model.gradient(norm),
        0);
  }

  private void attentionBackward(int l, Activations.Slot s, int tokens) {
    Model.Layer layer = model.layer(l);
    long x = a.at(s.x());
    long qkv = a.at(s.qkv());
    long k = qkv + bytes(c.queryWidth());
    long dQkv = a.dQkv();
    long dk = dQkv + bytes(c.queryWidth());
    String norm = ParameterNames.weight(l, c.modules().inputNorm());
    ops.linearBackward(
        layer.o().linear(),
        tokens,
        a.at(s.attention()),
        a.at(s.uO()),
        a.dResidual(),
        0,
        a.du(),
        a.dAttention());
    ops.attentionBackward(
        shape(batch.trainedSequences(), tokens, tokens, c.qkvWidth()),
        qkv,
        k,
        k + bytes(c.kvWidth()),
        a.at(s.attention()),
        a.at(s.lse()),
        a.dAttention(),
        dQkv,
        dk,
        dk + bytes(c.kvWidth()));
    rotate(tokens, dQkv, true);
    norm(norm, tokens, x, 0);
    // Below the first layer there is only the embedding: with adapters alone nothing there wants a
    // gradient.
    boolean wanted = l > 0 || model.trainsWeights();
    ops.linearBackward(
        layer.qkv().linear(),
        tokens,
        a.normed(),
        a.at(s.uQkv()),
        dQkv,
        0,
        a.du(),
        wanted ? a.dNormed() : 0);
    if (wanted) {
      ops.normBackward(
          Ops.NormShape.rms(tokens, c.hiddenSize(), c.norms().eps()),
          a.dNormed(),
          x,
          model.weight(norm),
          0,
          a.at(s.rstdIn()),
          a.dResidual(),
          c.hiddenSize(),
          true,
          model.gradient(norm),
          0);
    }
  }

  private void norm(String weight, int tokens, long x, long rstd) {
    ops.normForward(
        Ops.NormShape.rms(tokens, c.hiddenSize(), c.norms().eps()),
        x,
        model.weight(weight),
        0,
        0,
        a.normed(),
        0,
        rstd);
  }

  /** Queries and keys stand side by side and turn alike, so one call turns both. */
  private void rotate(int tokens, long qkv, boolean inverse) {
    ops.rotary(
        tokens,
        c.heads() + c.kvHeads(),
        c.headDim(),
        c.rotary().width(),
        qkv,
        c.qkvWidth(),
        a.at(a.positionsOffset()),
        c.rotaryRows(),
        model.cos(),
        model.sin(),
        inverse);
  }

  private Ops.AttentionShape shape(int segments, long qRows, long kRows, long kvStride) {
    return new Ops.AttentionShape(
        c.heads(),
        c.kvHeads(),
        c.headDim(),
        (float) (1 / Math.sqrt(c.headDim())),
        segments,
        a.at(a.segmentsOffset()),
        qRows,
        c.qkvWidth(),
        kRows,
        kvStride);
  }

  private void upload(PackedBatch packed) {
    if (packed.tokens() > a.tokens()) {
      throw new UserException(
          "a batch of "
              + packed.tokens()
              + " tokens exceeds the "
              + a.tokens()
              + " that memory was taken for; raise train.tokens_per_micro_batch");
    }
    for (int s = 0; s < packed.sequences(); s++) {
      int length = packed.starts()[s + 1] - packed.starts()[s];
      if (length > c.contextLength()) {
        throw new UserException(
            "a sequence of "
                + length
                + " tokens exceeds the model's context of "
                + c.contextLength()
                + "; shorten it, or set data.context_length");
      }
    }
    batch = packed;
    staging.upload(packed.ids(), packed.tokens(), a.arena().buffer(), a.idsOffset());
    staging.upload(rotaryRows(packed), packed.tokens(), a.arena().buffer(), a.positionsOffset());
    int[] segments = new int[packed.sequences() * Ops.SEGMENT_FIELDS];
    for (int s = 0; s < packed.sequences(); s++) {
      int start = packed.starts()[s];
      int length = packed.starts()[s + 1] - start;
      int at = s * Ops.SEGMENT_FIELDS;
      segments[at] = start;
      segments[at + 1] = length;
      segments[at + 2] = start;
      segments[at + 3] = length;
    }
    staging.upload(segments, segments.length, a.arena().buffer(), a.segmentsOffset());
  }

  /** The row of the tables of angles that each token turns by. */
  private int[] rotaryRows(PackedBatch packed) {
    int[] rows = packed.positions().clone();
    for (int s = 0; s < packed.sequences(); s++) {
      int first = packed.starts()[s];
      int end = packed.starts()[s + 1];
      int table = c.rotary().table(end - first);
      for (int t = first; t < end; t++) {
        rows[t] += table * c.contextLength();
      }
    }
    return rows;
  }

  private long bytes(long elements) {
    return elements * ops.dtype().bytes();
  }

  @Override
  public void close() {
    staging.close();
    a.close();
  }
}
