package org.lethe.kernels;

/**
 * The scales of 4-bit blocks: {@code absmax} alone, or, where that is 0, those of double
 * quantisation.
 *
 * @param absmax fp32 [blocks]
 * @param nested bytes [blocks]
 * @param nestedMap fp32 [256]
 * @param nestedAbsmax fp32, one for 256 blocks
 */
public record Nf4Scales(
    long absmax, long nested, long nestedMap, long nestedAbsmax, float nestedOffset) {
  /** Scales as they are. */
  public static Nf4Scales plain(long absmax) {
    return new Nf4Scales(absmax, 0, 0, 0, 0);
  }
}
