package org.lethe.kernels;

import org.lethe.kernels.abi.Abi;

/**
 * One checked method per op of {@code lethe.h}: the same names, argument order and shapes, which
 * that header documents. Operands are refs ({@link Buffer#at}). Only the backend's thread may call
 * it.
 */
public final class Ops {
  private final Backend backend;

  public Ops(Backend backend) {
    this.backend = backend;
  }

  /** {@code dst[bytes] = src[bytes]}. */
  public void copy(long dst, long src, long bytes) {
    Backend.check(Abi.lethe_copy(backend.handle(), dst, src, bytes));
  }

  /** {@code dst[bytes] = 0}. */
  public void zero(long dst, long bytes) {
    Backend.check(Abi.lethe_zero(backend.handle(), dst, bytes));
  }

  /** {@code n} numbers from one floating dtype to the other. */
  public void convert(long n, Dtype srcDtype, long src, Dtype dstDtype, long dst) {
    Backend.check(
        Abi.lethe_convert(backend.handle(), n, srcDtype.code(), src, dstDtype.code(), dst));
  }

  /** {@code y[T,d] = x / sqrt(mean(x²) + eps) · w}; {@code rstd[T]} fp32 is kept when not 0. */
  public void rmsnormForward(
      Dtype dtype, long tokens, long d, float eps, long x, long w, long y, long rstd) {
    Backend.check(
        Abi.lethe_rmsnorm_forward(backend.handle(), dtype.code(), tokens, d, eps, x, w, y, rstd));
  }

  /**
   * {@code dx[T,d] +=} the gradient through the norm; {@code dw[d]} fp32 {@code +=} its weight's,
   * when not 0.
   */
  public void rmsnormBackward(
      Dtype dtype, long tokens, long d, long dy, long x, long w, long rstd, long dx, long dw) {
    Backend.check(
        Abi.lethe_rmsnorm_backward(
            backend.handle(), dtype.code(), tokens, d, dy, x, w, rstd, dx, dw));
  }
}
