package org.lethe.model;

import java.util.List;
import org.lethe.InternalFaultException;
import org.lethe.UserException;
import org.lethe.kernels.AttentionShape;
import org.lethe.kernels.Dtype;
import org.lethe.kernels.Ops;
import org.lethe.kernels.Staging;

/**
 * The forward and the backward pass of a decoder, op by op, as its {@link ModelConfig} says.
 *
 * <pre>
 * x₀ = scale·embedding[ids]
 * for each layer: {@link AttentionBlock}: m = x + attention(norm(x))
 *                 {@link FeedForwardBlock}: x = m + feed-forward(norm(m)), or in parallel of norm(x)
 * </pre>
 *
 * The final norm and the logits belong to {@link Head}: only rows that a loss looks at go there, so
 * behind its attention the last layer runs on these alone ({@link SourceRows}). Only the backend's
 * thread may call it.
 */
public final class Decoder implements AutoCloseable {
  private final Model model;
  private final ModelConfig c;
  private final Ops ops;
  private final Activations a;
  private final SourceRows sources;
  private final AttentionBlock attention;
  private final FeedForwardBlock feedForward;
  private final float embeddingScale;
  private final Staging staging;
  private PackedBatch batch;

  /**
   * Takes the memory of the largest batch.
   *
   * @param tokens the most tokens of one batch: memory is taken for that many, now
   * @param backward whether {@link #backward} will be called
   */
  public Decoder(Model model, int tokens, boolean backward) {
    this(model, tokens, backward ? ActivationPolicy.KEEP : null);
  }

  /**
   * The same, with less of the activations kept for the backward pass.
   *
   * @param policy null: there will be no backward pass
   */
  public Decoder(Model model, int tokens, ActivationPolicy policy) {
    this.model = model;
    this.c = model.config();
    this.ops = model.ops();
    this.a = new Activations(model, tokens, policy);
    NormRunner norms = new NormRunner(model);
    this.sources = new SourceRows(ops, a);
    this.attention = new AttentionBlock(model, a, norms, sources);
    this.feedForward = new FeedForwardBlock(model, a, norms, sources);
    this.embeddingScale = rounded(c.ends().embeddingScale(), ops.dtype());
    this.staging = new Staging(tokens * AttentionShape.SEGMENT_FIELDS * Integer.BYTES);
  }

  /** Tokens of the largest batch. */
  public int capacity() {
    return a.tokens();
  }

  /** Bytes that a decoder of so many tokens will take. */
  public static long bytes(Model model, int tokens, boolean backward) {
    return bytes(
        model.config(),
        model.ops().dtype(),
        model.adapterWidths(),
        tokens,
        backward ? ActivationPolicy.KEEP : null);
  }

  /**
   * Bytes that a decoder of so many tokens will take, without a model.
   *
   * @param policy null: without a backward pass
   */
  public static long bytes(
      ModelConfig config,
      Dtype storage,
      AdapterWidths adapters,
      int tokens,
      ActivationPolicy policy) {
    return Activations.bytes(config, storage, adapters, tokens, policy);
  }

  /** Bytes of the activations. */
  public long bytes() {
    return a.bytes();
  }

  /**
   * Runs all layers. Adapters act on the trained sequences alone.
   *
   * @param sourceTokens the tokens whose stream is wanted, those of trained sequences first
   * @return the ref of the residual stream after the last layer at those, [sources, d]
   */
  public long forward(PackedBatch packed, int[] sourceTokens) {
    return forward(packed, packed.trainedTokens(), sourceTokens);
  }

  /**
   * Runs all layers.
   *
   * @param adapted the adapters act on that many tokens of the front
   */
  public long forward(PackedBatch packed, int adapted, int[] sourceTokens) {
    upload(packed, sourceTokens);
    return run(adapted);
  }

  /**
   * Runs all layers on the batch that was uploaded last, as {@link #forward(PackedBatch, int[])}
   * does: ops alone, which a graph can capture.
   *
   * @return the ref of the residual stream after the last layer, [sources, d]
   */
  public long run() {
    return run(batch.trainedTokens());
  }

  private long run(int adapted) {
    PackedBatch packed = batch;
    if (adapted < packed.tokens() && !model.reference().equals(View.BASE)) {
      throw new InternalFaultException(
          "the rows without adapters are the base, but the reference is another view: it needs a"
              + " pass of its own");
    }
    return layersForward(model.view(), packed, adapted, null, a.hostLayers());
  }

  /**
   * Runs all layers in another view than the model's own; the backward pass is not for this. It
   * writes where {@link #forward(PackedBatch, int[])} does: what a loss needs of it is taken away
   * before the batch that trains is run ({@link Head#take}).
   *
   * @return the ref of the residual stream after the last layer, [sources, d]
   */
  public long forward(View view, PackedBatch packed, int[] sourceTokens) {
    upload(packed, sourceTokens);
    return layersForward(view, packed, packed.tokens(), null, null);
  }

  /**
   * Runs all layers on new tokens of cached sequences, whose keys and values join the cache.
   *
   * @param step which rows of the cache each sequence reads and writes
   * @return the ref of the residual stream after the last layer, [sources, d]
   */
  long forwardCached(View view, PackedBatch packed, KvCache.Step step, int[] sourceTokens) {
    upload(packed, sourceTokens);
    staging.upload(step.segments(), step.segments().length, a.arena().buffer(), a.segmentsOffset());
    staging.upload(
        step.positions(), step.positions().length, a.arena().buffer(), a.positionsOffset());
    return layersForward(view, packed, packed.tokens(), step, null);
  }

  /** With {@code host}, a backward pass may follow, and its layers' activations go there. */
  private long layersForward(
      View view, PackedBatch packed, int adapted, KvCache.Step cached, HostLayers host) {
    List<Projections.Layer> layers = model.layers(view);
    int tokens = packed.tokens();
    ops.embeddingForward(
        tokens,
        c.hiddenSize(),
        c.vocabularySize(),
        embeddingScale,
        model.weight(ParameterNames.EMBEDDING),
        a.at(a.idsOffset()),
        a.at(a.slot(0).x()));
    for (int l = 0; l < c.layers(); l++) {
      Activations.Slot s = a.slot(l);
      Projections.Layer layer = layers.get(l);
      if (a.hostLayers() != null) {
        a.hostLayers().beforeForward(l);
      }
      SourceRows.Span span =
          isLast(l) ? sources.all(adapted) : SourceRows.Span.tokens(tokens, adapted);
      attention.forward(l, s, layer, packed, AttentionBlock.Rows.ALL, adapted, span, cached);
      feedForward.forward(l, s, layer, tokens, span, a.at(a.slot(l + 1).x()));
      if (host != null) {
        host.afterForward(l);
      }
    }
    return a.at(a.slot(c.layers()).x());
  }

  private boolean isLast(int layer) {
    return layer == c.layers() - 1;
  }

  /**
   * The ref of d(loss)/d(residual stream after the last layer), [trained sources, d]: filled by
   * {@link Head} before {@link #backward}.
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
    List<Projections.Layer> layers = model.layers(model.view());
    FusedUpdate fused = model.fusedUpdate();
    for (int l = c.layers() - 1; l >= 0; l--) {
      Activations.Slot s = a.slot(l);
      Projections.Layer layer = layers.get(l);
      if (a.hostLayers() != null) {
        a.hostLayers().beforeBackward(l);
      }
      SourceRows.Span span =
          isLast(l) ? sources.trained(tokens) : SourceRows.Span.tokens(tokens, tokens);
      if (a.lost(l)) {
        attention.forward(l, s, layer, batch, AttentionBlock.Rows.TRAINED, tokens, span, null);
        feedForward.forwardAgain(l, s, layer, tokens, span, a.at(a.slot(l + 1).x()));
      }
      // Below the first layer there is only the embedding: with adapters alone nothing there wants
      // a gradient.
      boolean wanted = l > 0 || model.trainsWeights();
      feedForward.backward(l, s, layer, tokens, span, wanted);
      attention.backward(l, s, layer, batch, span, wanted);
      if (fused != null) {
        fused.layerDone(l);
      }
    }
    if (model.trainsWeights()) {
      ops.embeddingBackward(
          tokens,
          c.hiddenSize(),
          c.vocabularySize(),
          embeddingScale,
          a.dResidual(),
          a.at(a.idsOffset()),
          model.gradient(ParameterNames.EMBEDDING));
      if (fused != null) {
        fused.embeddingDone();
      }
    }
  }

  /**
   * Takes a batch to the device, for {@link #run()} and {@link #backward}.
   *
   * @param sourceTokens the tokens whose stream is wanted, those of trained sequences first
   */
  public void upload(PackedBatch packed, int[] sourceTokens) {
    if (packed.tokens() > a.tokens()) {
      throw new UserException(
          "a batch of "
              + packed.tokens()
              + " tokens exceeds the "
              + a.tokens()
              + " that memory was taken for; raise train.tokens_per_micro_batch");
    }
    if (packed.reach() > c.contextLength()) {
      throw new UserException(
          "a sequence of "
              + packed.reach()
              + " tokens exceeds the model's context of "
              + c.contextLength()
              + "; shorten it, or set data.context_length");
    }
    if (sourceTokens.length > a.tokens()) {
      throw new InternalFaultException(
          sourceTokens.length + " sources of at most " + a.tokens() + " tokens");
    }
    batch = packed;
    sources.set(sourceTokens);
    staging.upload(sourceTokens, sourceTokens.length, a.arena().buffer(), a.sourcesOffset());
    staging.upload(packed.ids(), packed.tokens(), a.arena().buffer(), a.idsOffset());
    staging.upload(rotaryRows(packed), packed.tokens(), a.arena().buffer(), a.positionsOffset());
    int[] segments = packed.segments();
    staging.upload(segments, segments.length, a.arena().buffer(), a.segmentsOffset());
    a.uploadRowKeys(packed.rowKeys(), sourceTokens, staging);
  }

  /** The row of the tables of angles that each token turns by. */
  private int[] rotaryRows(PackedBatch packed) {
    int[] rows = packed.positions().clone();
    for (int s = 0; s < packed.sequences(); s++) {
      int first = packed.starts()[s];
      int end = packed.starts()[s + 1];
      int table = c.rotary().table(packed.positions()[end - 1] + 1);
      for (int t = first; t < end; t++) {
        rows[t] += table * c.contextLength();
      }
    }
    return rows;
  }

  /** Hugging Face rounds the factor to the type of the weights before it multiplies. */
  private static float rounded(double scale, Dtype storage) {
    float wide = (float) scale;
    if (storage != Dtype.BF16) {
      return wide;
    }
    int bits = Float.floatToIntBits(wide);
    int toEven = 0x7fff + (bits >>> 16 & 1);
    return Float.intBitsToFloat(bits + toEven & 0xffff0000);
  }

  @Override
  public void close() {
    staging.close();
    a.close();
  }
}
