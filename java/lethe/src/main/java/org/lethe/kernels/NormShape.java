package org.lethe.kernels;

/**
 * The sizes of a norm: {@code rows} rows of {@code groups} vectors of {@code width} elements side
 * by side; strides in elements.
 *
 * @param weightShift is added to the weight: 1 for Gemma's 1 + w
 */
public record NormShape(
    NormKind kind,
    long rows,
    long groups,
    long width,
    float eps,
    float weightShift,
    long xStride,
    long yStride) {

  /** RMSNorm over whole packed rows, as Llama has it. */
  public static NormShape rms(long rows, long width, float eps) {
    return new NormShape(NormKind.RMS, rows, 1, width, eps, 0, width, width);
  }
}
