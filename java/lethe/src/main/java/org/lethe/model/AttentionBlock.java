package org.lethe.model;

import org.lethe.kernels.AttentionShape;
import org.lethe.kernels.Ops;

/**
 * The attention of a layer, forward and backward.
 *
 * <pre>
 * n = norm(x);  q|k|v = n·Wqkvᵀ + b;  norm the heads of q, k (some families);  rotate q, k
 * a = attention(q, k, v) within the layer's window
 * m = x + a·Woᵀ + b      or x + norm(a·Woᵀ + b)
 * </pre>
 */
final class AttentionBlock {
  private final Model model;
  private final ModelConfig c;
  private final Ops ops;
  private final Activations a;
  private final NormRunner norms;
  private final SourceRows sources;

  /** Which of a batch's rows a forward pass computes. */
  enum Rows {
    /** Every row. */
    ALL,
    /** Those that the backward pass needs. */
    TRAINED;

    int tokens(PackedBatch batch) {
      return this == ALL ? batch.tokens() : batch.trainedTokens();
    }

    int sequences(PackedBatch batch) {
      return this == ALL ? batch.sequences() : batch.trainedSequences();
    }
  }

  AttentionBlock(Model model, Activations activations, NormRunner norms, SourceRows sources) {
    this.model = model;
    this.c = model.config();
    this.ops = model.ops();
    this.a = activations;
    this.norms = norms;
    this.sources = sources;
  }

  /**
   * Reads the stream that enters the layer and writes its middle; {@code normed} holds n
   * afterwards.
   *
   * @param span which rows the middle has
   * @param cached null: keys and values are the batch's own
   */
  void forward(
      int l,
      Activations.Slot s,
      Projections.Layer layer,
      PackedBatch batch,
      Rows rows,
      int adapted,
      SourceRows.Span span,
      KvCache.Step cached) {
    int tokens = rows.tokens(batch);
    int sequences = rows.sequences(batch);
    long x = a.at(s.x());
    long qkv = a.at(s.qkv());
    norms.forward(inputNorm(l), tokens, x, 0, a.normed(), a.kept(s.inputNorm()));
    long projection = layer.qkv().linear();
    // Without a backward pass the heads' norms may write over what they read.
    long projected = cached == null ? projected(s) : qkv;
    ops.linear()
        .forward(
            projection, tokens, adapted, a.normed(), 0, projected, a.rowKeys(), a.at(s.uQkv()));
    if (c.attention().queryKeyNorm()) {
      normHeads(l, s, tokens, projected);
    }
    rotate(tokens, qkv, false);
    long key = qkv + bytes(c.queryWidth());
    if (cached == null) {
      ops.attentionForward(
          shape(l, batch.attending(sequences), tokens, tokens, c.qkvWidth()),
          qkv,
          key,
          values(projected),
          a.at(s.attention()),
          a.at(s.lse()));
      silence(batch, sequences, a.at(s.attention()), c.queryWidth());
    } else {
      KvCache cache = cached.cache();
      cache.append(ops, l, tokens, key, c.qkvWidth());
      ops.attentionForward(
          shape(l, sequences, tokens, cache.rows(), 2L * c.kvWidth()),
          qkv,
          cache.keys(l),
          cache.keys(l) + bytes(c.kvWidth()),
          a.at(s.attention()),
          0);
    }
    output(l, s, layer, tokens, span);
  }

  private void output(
      int l, Activations.Slot s, Projections.Layer layer, int tokens, SourceRows.Span span) {
    long x = a.at(s.x());
    long middle = a.at(s.middle());
    long attention = attended(s, tokens, span);
    if (span.gathered()) {
      // A residual may be added in its own place.
      sources.gather(span, c.hiddenSize(), tokens, x, middle);
      x = middle;
    }
    boolean after = c.norms().after();
    long out = after ? a.at(s.attentionOut()) : middle;
    ops.linear()
        .forward(
            layer.o().linear(),
            span.rows(),
            span.adapted(),
            attention,
            after ? 0 : x,
            out,
            a.rowKeys(span),
            a.at(s.uO()));
    if (after) {
      norms.forward(afterNorm(l), span.rows(), out, x, middle, a.kept(s.attentionNorm()));
    }
  }

  /** The rows of the attention's output that the projection reads. */
  private long attended(Activations.Slot s, int tokens, SourceRows.Span span) {
    if (!span.gathered()) {
      return a.at(s.attention());
    }
    sources.gather(span, c.queryWidth(), tokens, a.at(s.attention()), a.act());
    return a.act();
  }

  /**
   * Adds the gradient through the attention to that of the residual stream, which has all trained
   * rows afterwards.
   *
   * @param span which rows it has before
   * @param wanted whether anything below this layer's first norm wants a gradient
   */
  void backward(
      int l,
      Activations.Slot s,
      Projections.Layer layer,
      PackedBatch batch,
      SourceRows.Span span,
      boolean wanted) {
    int tokens = batch.trainedTokens();
    long x = a.at(s.x());
    outputBackward(l, s, layer, tokens, span);
    NormRunner.Kept kept = a.kept(s.inputNorm());
    if (c.feedForward().parallel() && wanted) {
      // What the feed-forward part left: the norm is linear in its gradient, so both are added.
      norms.backward(inputNorm(l), tokens, a.dNormed(), x, kept, a.dResidual(), true);
    }
    scoresBackward(l, s, batch);
    norms.forward(inputNorm(l), tokens, x, 0, a.normed(), NormRunner.Kept.NOTHING);
    ops.linear()
        .backward(
            layer.qkv().linear(),
            tokens,
            a.normed(),
            a.at(s.uQkv()),
            a.dQkv(),
            a.rowKeys(),
            a.du(),
            wanted ? a.dNormed() : 0);
    if (wanted) {
      norms.backward(inputNorm(l), tokens, a.dNormed(), x, kept, a.dResidual(), true);
    }
  }

  /** From {@code dResidual} to {@code dAttention}; from here on both have all trained rows. */
  private void outputBackward(
      int l, Activations.Slot s, Projections.Layer layer, int tokens, SourceRows.Span span) {
    int rows = span.rows();
    long dOut = a.dResidual();
    if (c.norms().after()) {
      NormRunner.Kept kept = a.kept(s.attentionNorm());
      norms.backward(afterNorm(l), rows, dOut, a.at(s.attentionOut()), kept, a.dNormed(), false);
      dOut = a.dNormed();
    }
    // q|k|v's gradient is not there yet, and never narrower.
    long dRows = span.gathered() ? a.dQkv() : a.dAttention();
    ops.linear()
        .backward(
            layer.o().linear(),
            rows,
            attended(s, tokens, span),
            a.at(s.uO()),
            dOut,
            a.rowKeys(span),
            a.du(),
            dRows);
    if (span.gathered()) {
      sources.spread(span, c.queryWidth(), tokens, dRows, a.dAttention());
      sources.spreadInPlace(span, c.hiddenSize(), tokens, a.dResidual(), a.act());
      if (c.feedForward().parallel()) {
        sources.spreadInPlace(span, c.hiddenSize(), tokens, a.dNormed(), a.act());
      }
    }
  }

  /** From {@code dAttention} to {@code dQkv}, through attention, rotation and the heads' norms. */
  private void scoresBackward(int l, Activations.Slot s, PackedBatch batch) {
    int tokens = batch.trainedTokens();
    long qkv = a.at(s.qkv());
    long key = qkv + bytes(c.queryWidth());
    long dQkv = a.dQkv();
    long dKey = dQkv + bytes(c.queryWidth());
    ops.attentionBackward(
        shape(l, batch.attending(batch.trainedSequences()), tokens, tokens, c.qkvWidth()),
        qkv,
        key,
        values(projected(s)),
        a.at(s.attention()),
        a.at(s.lse()),
        a.dAttention(),
        dQkv,
        dKey,
        dKey + bytes(c.kvWidth()));
    silence(batch, batch.trainedSequences(), dQkv, c.qkvWidth());
    rotate(tokens, dQkv, true);
    if (c.attention().queryKeyNorm()) {
      long raw = a.at(s.rawQkv());
      long rawKey = raw + bytes(c.queryWidth());
      norms.headsBackward(queryNorm(l), tokens, c.heads(), dQkv, raw, a.kept(s.queryNorm()));
      norms.headsBackward(keyNorm(l), tokens, c.kvHeads(), dKey, rawKey, a.kept(s.keyNorm()));
    }
  }

  /**
   * Zeroes the rows of the silent ones of the first sequences: the kernel leaves them as they are.
   */
  private void silence(PackedBatch batch, int sequences, long rows, long width) {
    for (int sequence : batch.silent()) {
      if (sequence < sequences) {
        long start = batch.starts()[sequence];
        long count = batch.starts()[sequence + 1] - start;
        ops.zero(rows + bytes(start * width), bytes(count * width));
      }
    }
  }

  /**
   * Where q|k|v of a batch is projected to. The backward pass of the heads' norms reads what they
   * read, so with those it is apart from {@code qkv}, and the values stay there.
   */
  private long projected(Activations.Slot s) {
    return a.at(c.attention().queryKeyNorm() ? s.rawQkv() : s.qkv());
  }

  private long values(long projected) {
    return projected + bytes((long) c.queryWidth() + c.kvWidth());
  }

  private void normHeads(int l, Activations.Slot s, int tokens, long projected) {
    long qkv = a.at(s.qkv());
    long offset = bytes(c.queryWidth());
    norms.headsForward(queryNorm(l), tokens, c.heads(), projected, qkv, a.kept(s.queryNorm()));
    norms.headsForward(
        keyNorm(l), tokens, c.kvHeads(), projected + offset, qkv + offset, a.kept(s.keyNorm()));
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
        model.rotary().cos(),
        model.rotary().sin(),
        inverse);
  }

  private AttentionShape shape(int l, int segments, long qRows, long kRows, long kvStride) {
    return new AttentionShape(
        c.heads(),
        c.kvHeads(),
        c.headDim(),
        c.attention().scale(),
        segments,
        a.at(a.segmentsOffset()),
        qRows,
        c.qkvWidth(),
        kRows,
        kvStride,
        c.attention().windows().get(l),
        c.attention().softCap());
  }

  private String inputNorm(int layer) {
    return ParameterNames.module(layer, c.modules().inputNorm());
  }

  private String afterNorm(int layer) {
    return ParameterNames.module(layer, c.modules().attentionAfterNorm());
  }

  private String queryNorm(int layer) {
    return ParameterNames.module(layer, c.modules().queryNorm());
  }

  private String keyNorm(int layer) {
    return ParameterNames.module(layer, c.modules().keyNorm());
  }

  private long bytes(long elements) {
    return elements * ops.dtype().bytes();
  }
}
