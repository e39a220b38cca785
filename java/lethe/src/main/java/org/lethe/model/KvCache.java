package org.lethe.model;

import org.lethe.kernels.Arena;
import org.lethe.kernels.AttentionShape;
import org.lethe.kernels.Dtype;
import org.lethe.kernels.Ops;
import org.lethe.kernels.Staging;

/**
 * Keys and values of sequences that are being continued: per layer {@code [slots * length, 2 *
 * kvWidth]}, key then value in each row. A slot is one sequence. Only the backend's thread may call
 * it.
 */
final class KvCache implements AutoCloseable {
  private final ModelConfig c;
  private final int slots;
  private final int length;
  private final Arena arena;
  private final long[] layers;
  private final long index;
  private final Staging staging;

  /** One step's tokens: where they are written, and what each sequence reads. */
  record Step(KvCache cache, int[] positions, int[] segments) {}

  KvCache(Model model, int slots, int length) {
    this(
        model.config(),
        model.ops().dtype(),
        slots,
        length,
        new Arena(model.ops().backend(), "cached keys and values"));
  }

  private KvCache(ModelConfig config, Dtype storage, int slots, int length, Arena arena) {
    this.c = config;
    this.slots = slots;
    this.length = length;
    this.arena = arena;
    this.layers = new long[c.layers()];
    for (int l = 0; l < layers.length; l++) {
      layers[l] = arena.reserve((long) slots * length * 2 * c.kvWidth(), storage);
    }
    this.index = arena.reserve((long) slots * length, Dtype.I32);
    arena.allocate();
    this.staging = arena.counts() ? null : new Staging(slots * length * Integer.BYTES);
  }

  /** What so many slots will take. */
  static long bytes(ModelConfig config, Dtype storage, int slots, int length) {
    return new KvCache(config, storage, slots, length, new Arena(null)).arena.bytes();
  }

  long rows() {
    return (long) slots * length;
  }

  int length() {
    return length;
  }

  long keys(int layer) {
    return arena.at(layers[layer]);
  }

  /**
   * The step that appends {@code counts[i]} tokens to slot {@code slotOf[i]}, which holds {@code
   * filled[i]} so far. Tokens of the sequences follow each other in the batch.
   */
  Step step(int[] slotOf, int[] filled, int[] counts) {
    int tokens = 0;
    for (int count : counts) {
      tokens += count;
    }
    int[] positions = new int[tokens];
    int[] target = new int[tokens];
    int[] segments = new int[slotOf.length * AttentionShape.SEGMENT_FIELDS];
    int next = 0;
    for (int i = 0; i < slotOf.length; i++) {
      int at = i * AttentionShape.SEGMENT_FIELDS;
      int first = slotOf[i] * length;
      int table = c.rotary().table(filled[i] + counts[i]);
      segments[at] = next;
      segments[at + 1] = counts[i];
      segments[at + 2] = first;
      segments[at + 3] = filled[i] + counts[i];
      for (int t = 0; t < counts[i]; t++, next++) {
        positions[next] = table * c.contextLength() + filled[i] + t;
        target[next] = first + filled[i] + t;
      }
    }
    staging.upload(target, tokens, arena.buffer(), index);
    return new Step(this, positions, segments);
  }

  /**
   * Copies the step's keys and values, {@code kv[tokens, 2 * kvWidth]} with a stride in elements,
   * to their rows.
   */
  void append(Ops ops, int layer, int tokens, long kv, long stride) {
    long width = 2L * c.kvWidth();
    ops.scatterRows(tokens, width, rows(), kv, stride, arena.at(index), keys(layer), width);
  }

  @Override
  public void close() {
    staging.close();
    arena.close();
  }
}
