package org.lethe.model;

import java.nio.ByteBuffer;
import java.util.Optional;
import org.lethe.model.quant.NestedScales;

/**
 * A weight as 4-bit NormalFloat codes in blocks of 64, two of them in a byte, as bitsandbytes packs
 * them.
 *
 * @param packed reads their bytes
 * @param scales fp32, one a block; none where they are quantised in their turn
 * @param nested scales that are
 */
public record Nf4Codes(Reader packed, float[] scales, Optional<NestedScales> nested) {
  /** Weights of a block. */
  public static final int BLOCK_SIZE = 64;

  /** Reads a weight's bytes. */
  @FunctionalInterface
  public interface Reader {
    /** Fills what remains of {@code target} from byte {@code offset} on. */
    void read(long offset, ByteBuffer target);
  }

  /** Bytes of so many codes. */
  static long packedBytes(long elements) {
    return (elements + 1) / 2;
  }

  /** Blocks of so many weights. */
  static long blocks(long elements) {
    return (elements + BLOCK_SIZE - 1) / BLOCK_SIZE;
  }
}
