package org.lethe.kernels;

import org.lethe.internal.abi.Abi;

/**
 * The sizes of an attention call: {@code q[qRows,heads,headDim]}, {@code k} and {@code v
 * [kRows,kvHeads,headDim]}, strides in elements; {@code segmentTable[segments,6]} int32.
 *
 * @param window how many keys of its list, its own included, a query sees; 0: all
 * @param softCap a scaled score s becomes softCap·tanh(s/softCap); 0: none
 */
public record AttentionShape(
    long heads,
    long kvHeads,
    long headDim,
    float scale,
    long segments,
    long segmentTable,
    long qRows,
    long qStride,
    long kRows,
    long kvStride,
    long window,
    float softCap) {
  /**
   * Ints of one attention segment: first query row, queries, first own key row, own keys, first
   * parent key row, parent keys.
   */
  public static final int SEGMENT_FIELDS = Abi.LETHE_SEGMENT_FIELDS;

  /** No window and no soft cap. */
  public AttentionShape(
      long heads,
      long kvHeads,
      long headDim,
      float scale,
      long segments,
      long segmentTable,
      long qRows,
      long qStride,
      long kRows,
      long kvStride) {
    this(
        heads,
        kvHeads,
        headDim,
        scale,
        segments,
        segmentTable,
        qRows,
        qStride,
        kRows,
        kvStride,
        0,
        0);
  }
}
