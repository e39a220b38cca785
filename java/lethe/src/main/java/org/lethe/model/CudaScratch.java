package org.lethe.model;

import org.lethe.kernels.Dtype;

/**
 * Bytes that one call of an op takes of a CUDA engine's scratch memory: the rules of {@code cuda/},
 * where each op asks for its own. A test holds them to what the ops ask for, to the byte.
 */
final class CudaScratch {
  private static final long ALIGNMENT = 256;
  private static final int VECTOR_BYTES = 16;
  private static final int WARP = 32;

  private CudaScratch() {}

  /**
   * A linear with adapters.
   *
   * @param stride elements of a row of its weight, at least in
   * @param spareRows below its weight
   * @param ranks of all its adapters; 0: it has none
   * @param widestPart outputs of the widest part that has an adapter
   * @param bias whether it has one
   */
  record Linear(
      long in, long out, long stride, long spareRows, long ranks, long widestPart, boolean bias) {}

  /** The mean row of the head's weight. */
  static long headMean(long d, long vocabulary) {
    return aligned(up(vocabulary, 256) * d * Double.BYTES);
  }

  /**
   * A linear, forward.
   *
   * @param drops whether its adapters leave inputs out
   */
  static long linearForward(Dtype storage, Linear l, long tokens, boolean drops) {
    long masked = l.ranks() > 0 && drops ? aligned(tokens * l.in() * storage.bytes()) : 0;
    long splits = splits(l.in());
    long partial = splits > 1 ? aligned(splits * bucket(tokens) * l.ranks() * Float.BYTES) : 0;
    long augmented = l.stride() > l.in() ? aligned(tokens * l.stride() * storage.bytes()) : 0;
    return augmented + (l.ranks() > 0 ? masked + partial : 0);
  }

  /**
   * A linear, backward.
   *
   * @param stacked whether its adapters' A lie side by side
   * @param trains whether its own weights do
   */
  static long linearBackward(
      Dtype storage, Linear l, long tokens, boolean drops, boolean stacked, boolean trains) {
    boolean adapted = l.ranks() > 0;
    boolean augments = adapted && l.spareRows() > 0 && !drops;
    long bytes = adapted && drops ? aligned(tokens * l.in() * storage.bytes()) : 0;
    if (adapted && !drops && !stacked && !augments) {
      bytes += aligned(l.ranks() * l.in() * storage.bytes());
    }
    if (augments) {
      bytes += aligned(tokens * (l.out() + l.spareRows()) * storage.bytes());
    }
    long splits = splits(l.widestPart());
    if (adapted && splits > 1) {
      bytes += aligned(splits * bucket(tokens) * l.ranks() * Float.BYTES);
    }
    return bytes + (trains && l.bias() ? aligned(up(tokens, 128) * l.out() * Float.BYTES) : 0);
  }

  /**
   * Attention.
   *
   * @param queries rows
   * @param keys rows
   * @param segments at most
   */
  static long attention(
      Dtype storage, ModelConfig c, long queries, long keys, long segments, boolean backward) {
    long d = c.headDim();
    boolean mma = storage == Dtype.BF16 && d <= 256;
    long rows = mma && !backward && d <= 128 ? 128 : 64;
    long tiles = up(queries * (c.heads() / c.kvHeads()), rows) + segments;
    long bytes = aligned(2 * Integer.BYTES) + aligned(tiles * 2 * Integer.BYTES);
    bytes += aligned(segments * Integer.BYTES);
    if (backward) {
      return bytes + aligned(queries * c.heads() * Float.BYTES);
    }
    // Keys in rounds are those of tokens before the queries.
    long rounds = keys <= queries ? 1 : Math.min(up(2 * keys, 512), 8);
    if (!mma || rounds <= 1) {
      return bytes;
    }
    long padded = d <= 64 ? 64 : d <= 96 ? 96 : d <= 128 ? 128 : 256;
    long found = Math.min(queries * c.heads(), segments * c.kvHeads() * 16);
    return bytes + aligned(found * rounds * (padded + 2) * Float.BYTES);
  }

  /**
   * A pass of the head.
   *
   * @param biased numbers of its bias; 0: it has none
   * @param fused whether the device was opened for the form without logits
   */
  static long head(long rows, boolean references, long biased, boolean forward, boolean fused) {
    return (forward ? aligned(rows * Integer.BYTES) : 0)
        + (references ? 2 * aligned(rows * Integer.BYTES) : 0)
        + aligned(rows * Float.BYTES)
        + aligned(biased * Float.BYTES)
        + aligned(Float.BYTES)
        + (forward && fused ? aligned(rows * 16) : 0);
  }

  /**
   * The head's gradient through the norm before it.
   *
   * @param trained how many vectors of parameters the norm trains
   */
  static long headNorm(long rows, long sources, long d, int trained) {
    long parts = Math.min(up(sources, 4), 512);
    return sort(rows)
        + aligned(rows * Integer.BYTES)
        + aligned((sources + 1) * Integer.BYTES)
        + trained * aligned(parts * d * Float.BYTES);
  }

  /**
   * A norm's backward pass.
   *
   * @param vectors of d numbers
   */
  static long norm(Dtype storage, long vectors, long d, int trained) {
    if (trained == 0) {
      return 0;
    }
    int vector = VECTOR_BYTES / storage.bytes();
    int lanes = 1;
    while ((long) lanes * vector < d && lanes < WARP) {
      lanes *= 2;
    }
    long together = d <= WARP * 8 ? 256 / lanes : 1;
    long parts = Math.min(up(vectors, together * 4), 512);
    return trained * aligned(parts * d * Float.BYTES);
  }

  /** The embedding's backward pass. */
  static long embedding(long tokens) {
    return sort(tokens);
  }

  /** Rows written to a table by index. */
  static long scatter(long rows, long tableRows) {
    return rows <= 256 ? 0 : tableRows * Integer.BYTES;
  }

  /** The norm of all gradients. */
  static long gradientNorm(long n) {
    long chunk = Math.max(1, up(n, 4096L << 14)) << 14;
    return Math.max(1, up(n, chunk)) * Double.BYTES;
  }

  /** The norm of a part of the gradients. */
  static long gradientNormPart(long n) {
    return aligned((up(n, 1 << 14) + 1) * Double.BYTES);
  }

  /** A draw for each row of the head. */
  static long sample(long rows, long biased) {
    return aligned(rows * Integer.BYTES) + aligned(biased * Float.BYTES) + aligned(Float.BYTES);
  }

  /** Keys by size. */
  private static long sort(long n) {
    long tile = up(up(n, 64), 1024) * 1024;
    long blocks = n == 0 ? 0 : up(n, tile);
    return aligned(blocks * 512 * Integer.BYTES) + 4 * aligned(n * Integer.BYTES);
  }

  /** Equal parts that a long sum is split into. */
  private static long splits(long k) {
    if (k < 8192) {
      return 1;
    }
    for (long splits = 8; splits > 1; splits--) {
      if (k % (splits * 8) == 0 && k / splits >= 1024) {
        return splits;
      }
    }
    return 1;
  }

  private static long bucket(long rows) {
    return Math.max(128, Long.highestOneBit(Math.max(1, 2 * rows - 1)));
  }

  private static long up(long n, long by) {
    return (n + by - 1) / by;
  }

  private static long aligned(long bytes) {
    return up(bytes, ALIGNMENT) * ALIGNMENT;
  }
}
