package org.lethe.model;

import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import org.lethe.kernels.Arena;
import org.lethe.kernels.AttentionShape;
import org.lethe.kernels.Dtype;
import org.lethe.kernels.NormKind;
import org.lethe.kernels.Ops;
import org.lethe.kernels.Staging;

/**
 * Everything a forward and a backward pass writes, in one arena sized from the token budget before
 * the first step.
 *
 * <p>Kept per layer: its input x, q|k|v after rotation (and before the norm of the heads, where
 * there is one), the attention's output and logsumexp, the middle of the residual stream, gate|up,
 * what the norms keep and, where they follow a projection, read, and the adapters' u. The normed
 * inputs and the activation are computed again in the backward pass: they cost one elementwise pass
 * and would be a third of the memory. Without a backward pass two layers' worth serve all.
 */
final class Activations implements AutoCloseable {
  private static final long ABSENT = -1;

  /** Offsets of one layer's tensors; {@link #ABSENT} for those that the family has not. */
  record Slot(
      long x,
      Kept inputNorm,
      long qkv,
      long rawQkv,
      Kept queryNorm,
      Kept keyNorm,
      long attention,
      long lse,
      long attentionOut,
      Kept attentionNorm,
      long middle,
      Kept middleNorm,
      long inner,
      long feedForwardOut,
      Kept feedForwardNorm,
      long uQkv,
      long uO,
      long uGateUp,
      long uDown) {
    /** Only the residual stream. */
    static Slot last(long x) {
      Kept no = Kept.NONE;
      long n = ABSENT;
      return new Slot(x, no, n, n, no, no, n, n, n, no, n, no, n, n, no, n, n, n, n);
    }

    /** The same memory for another layer, which has these two of its own. */
    Slot shared(long ownX, long ownUDown) {
      return new Slot(
          ownX,
          inputNorm,
          qkv,
          rawQkv,
          queryNorm,
          keyNorm,
          attention,
          lse,
          attentionOut,
          attentionNorm,
          middle,
          middleNorm,
          inner,
          feedForwardOut,
          feedForwardNorm,
          uQkv,
          uO,
          uGateUp,
          ownUDown);
    }
  }

  /** Offsets of what a norm keeps. */
  record Kept(long mean, long rstd) {
    static final Kept NONE = new Kept(ABSENT, ABSENT);
  }

  private final ModelConfig c;
  private final Dtype storage;
  private final AdapterWidths widths;
  private final ActivationPolicy policy;
  private final int tokens;
  private final boolean keepsLayers;
  private final Arena arena;
  private final List<Slot> slots = new ArrayList<>();
  private final long ids;
  private final long positions;
  private final long segments;
  private final long rowKeys;
  private final long sources;
  private final long sourceKeys;
  private final long normed;
  private final long act;
  private final Backward backward;
  private final HostLayers hostLayers;
  private boolean drops;

  /** Offsets of what only the backward pass needs. */
  private record Backward(
      long dResidual, long dNormed, long dAttention, long dQkv, long dAct, long du) {}

  /**
   * @param tokens the most tokens of one batch
   * @param policy null: no backward pass will follow
   */
  Activations(Model model, int tokens, ActivationPolicy policy) {
    this(
        model.ops(),
        model.config(),
        model.ops().dtype(),
        model.adapterWidths(),
        tokens,
        policy,
        new Arena(model.ops().backend(), "activations"));
  }

  private Activations(
      Ops ops,
      ModelConfig c,
      Dtype storage,
      AdapterWidths widths,
      int tokens,
      ActivationPolicy policy,
      Arena arena) {
    this.c = c;
    this.storage = storage;
    this.widths = widths;
    this.tokens = tokens;
    this.keepsLayers = policy != null;
    this.policy = policy == null ? ActivationPolicy.KEEP : policy;
    this.arena = arena;
    Places places = reserveSlots();
    this.ids = arena.reserve(tokens, Dtype.I32);
    this.positions = arena.reserve(tokens, Dtype.I32);
    // A sequence has at least one token, so there are at most as many segments.
    this.segments = arena.reserve((long) tokens * AttentionShape.SEGMENT_FIELDS, Dtype.I32);
    this.rowKeys = keepsLayers ? arena.reserveBytes((long) tokens * Long.BYTES) : ABSENT;
    this.sources = arena.reserve(tokens, Dtype.I32);
    this.sourceKeys = keepsLayers ? arena.reserveBytes((long) tokens * Long.BYTES) : ABSENT;
    this.normed = reserve(c.hiddenSize());
    // The last layer gathers rows of its attention or of the stream there.
    this.act = reserve(Math.max(c.feedForwardSize(), Math.max(c.queryWidth(), c.hiddenSize())));
    this.backward = keepsLayers ? reserveBackward() : null;
    arena.allocate();
    this.hostLayers = places.serves() && !arena.counts() ? places.open(ops, arena) : null;
  }

  /** Memory on the device that layers pass through whose activations are kept on the host. */
  private record Places(long[] offsets, long bytes, int first, int count) {
    /** Whether there are more layers than places. */
    boolean serves() {
      return count > offsets.length;
    }

    HostLayers open(Ops ops, Arena arena) {
      return new HostLayers(ops, arena, offsets, bytes, first, count);
    }
  }

  private Places reserveSlots() {
    Slot again = null;
    List<Slot> passing = new ArrayList<>();
    long[] offsets = new long[2];
    long bytes = 0;
    for (int layer = 0; layer < (keepsLayers ? c.layers() : 2); layer++) {
      long x = reserve(c.hiddenSize());
      if (policy.recomputes(layer)) {
        again = again == null ? reserveSlot(x) : again.shared(x, reserve(widths.down()));
        slots.add(again);
      } else if (policy.offloads(layer) && passing.size() == offsets.length) {
        Slot place = passing.get((layer - policy.recomputed()) % offsets.length);
        slots.add(place.shared(x, place.uDown()));
      } else {
        long before = arena.bytes();
        slots.add(reserveSlot(x));
        if (policy.offloads(layer)) {
          offsets[passing.size()] = before;
          bytes = arena.bytes() - before;
          passing.add(slots.get(layer));
        }
      }
    }
    if (keepsLayers) {
      slots.add(Slot.last(reserve(c.hiddenSize())));
    }
    int last = Math.min(policy.recomputed() + policy.offloaded(), c.layers());
    return new Places(offsets, bytes, policy.recomputed(), last - policy.recomputed());
  }

  /** What so many tokens will take. */
  static long bytes(
      ModelConfig c, Dtype storage, AdapterWidths widths, int tokens, ActivationPolicy policy) {
    return new Activations(null, c, storage, widths, tokens, policy, new Arena(null)).bytes();
  }

  /** Layers whose activations are kept on the host; null where there are none. */
  HostLayers hostLayers() {
    return hostLayers;
  }

  /** Whether a layer's activations must be computed again before its backward pass. */
  boolean lost(int layer) {
    return policy.lost(layer);
  }

  /** Tokens this was sized for. */
  int tokens() {
    return tokens;
  }

  long bytes() {
    return arena.bytes();
  }

  Arena arena() {
    return arena;
  }

  /** Layer l's tensors; l = layers is only the residual stream that leaves the last layer. */
  Slot slot(int layer) {
    return slots.get(keepsLayers ? layer : layer % 2);
  }

  long idsOffset() {
    return ids;
  }

  long positionsOffset() {
    return positions;
  }

  long segmentsOffset() {
    return segments;
  }

  /**
   * Takes the counters of a batch's dropout masks to the device; none: the adapters see all of
   * their inputs.
   *
   * @param keys of the trained tokens
   * @param sourceTokens of the batch's sources, those of trained tokens first
   */
  void uploadRowKeys(long[] keys, int[] sourceTokens, Staging staging) {
    drops = keys.length > 0;
    if (drops) {
      staging.upload(keys, keys.length, arena.buffer(), rowKeys);
      long[] ofSources =
          Arrays.stream(sourceTokens)
              .filter(t -> t < keys.length)
              .mapToLong(t -> keys[t])
              .toArray();
      staging.upload(ofSources, ofSources.length, arena.buffer(), sourceKeys);
    }
  }

  /** The ref of the counters of the dropout masks; 0 without dropout. */
  long rowKeys(SourceRows.Span span) {
    return drops ? arena.at(span.gathered() ? sourceKeys : rowKeys) : 0;
  }

  /** The same of all tokens. */
  long rowKeys() {
    return drops ? arena.at(rowKeys) : 0;
  }

  /** The ref of the token of each of the batch's sources. */
  long sources() {
    return arena.at(sources);
  }

  long sourcesOffset() {
    return sources;
  }

  long at(long offset) {
    return arena.at(offset);
  }

  /** The refs of what a norm keeps. */
  NormRunner.Kept kept(Kept offsets) {
    return new NormRunner.Kept(optional(offsets.mean()), optional(offsets.rstd()));
  }

  private long optional(long offset) {
    return offset == ABSENT ? 0 : arena.at(offset);
  }

  long normed() {
    return arena.at(normed);
  }

  long act() {
    return arena.at(act);
  }

  long dResidual() {
    return arena.at(backward.dResidual());
  }

  long dNormed() {
    return arena.at(backward.dNormed());
  }

  long dAttention() {
    return arena.at(backward.dAttention());
  }

  long dQkv() {
    return arena.at(backward.dQkv());
  }

  long dAct() {
    return arena.at(backward.dAct());
  }

  long du() {
    return arena.at(backward.du());
  }

  @Override
  public void close() {
    if (hostLayers != null) {
      hostLayers.close();
    }
    arena.close();
  }

  private Slot reserveSlot(long x) {
    boolean headNorms = c.attention().queryKeyNorm();
    boolean after = c.norms().after();
    return new Slot(
        x,
        reserveKept(true, 1),
        reserve(c.qkvWidth()),
        headNorms ? reserve(c.qkvWidth()) : ABSENT,
        reserveKept(headNorms, c.heads()),
        reserveKept(headNorms, c.kvHeads()),
        reserve(c.queryWidth()),
        arena.reserve((long) tokens * c.heads(), Dtype.F32),
        after ? reserve(c.hiddenSize()) : ABSENT,
        reserveKept(after, 1),
        reserve(c.hiddenSize()),
        reserveKept(!c.feedForward().parallel(), 1),
        reserve(c.feedForwardInWidth()),
        after ? reserve(c.hiddenSize()) : ABSENT,
        reserveKept(after, 1),
        reserve(widths.qkv()),
        reserve(widths.o()),
        reserve(widths.gateUp()),
        reserve(widths.down()));
  }

  private long reserve(int width) {
    return arena.reserve((long) tokens * width, storage);
  }

  private Kept reserveKept(boolean present, int vectors) {
    if (!present) {
      return Kept.NONE;
    }
    long count = (long) tokens * vectors;
    long mean = c.norms().kind() == NormKind.LAYER ? arena.reserve(count, Dtype.F32) : ABSENT;
    return new Kept(mean, arena.reserve(count, Dtype.F32));
  }

  private Backward reserveBackward() {
    return new Backward(
        reserve(c.hiddenSize()),
        reserve(c.hiddenSize()),
        reserve(c.queryWidth()),
        reserve(c.qkvWidth()),
        reserve(c.feedForwardSize()),
        reserve(widths.widest()));
  }
}
