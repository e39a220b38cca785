package org.lethe.kernels;

import org.lethe.internal.abi.Abi;

/**
 * The end of a step part by part, in as little memory as is asked for: {@code
 * lethe_gradient_norm_part} and {@code lethe_adamw_part}. Only the backend's thread may call it.
 */
public final class PartOps {
  /** Consecutive parameters that share one scale of 8-bit moments. */
  public static final int MOMENT_BLOCK = Abi.LETHE_MOMENT_BLOCK;

  private final Ops ops;

  /** Those of a device, in its storage. */
  public PartOps(Ops ops) {
    this.ops = ops;
  }

  /**
   * The moments of a part, by refs.
   *
   * @param m fp32, or codes where there are scales
   * @param mScale fp32, one a block; 0 for fp32 moments, as {@code vScale} and {@code maps}
   * @param maps {@link DynamicMaps#signed} and {@link DynamicMaps#unsigned} behind each other
   */
  public record Moments(long m, long v, long mScale, long vScale, long maps) {}

  /**
   * Parameters that one call updates.
   *
   * @param first its place among all parameters, in elements: names its random numbers
   * @param p the fp32 master; 0: {@code copy} is rounded stochastically
   * @param g the fp32 gradient
   * @param copy in storage
   */
  public record Part(long n, long first, long p, Moments moments, long g, long copy) {}

  /**
   * How they are updated.
   *
   * @param weightDecay in the place of the settings' own: a part decays or does not
   * @param seed of stochastic rounding
   */
  public record Update(AdamWSettings settings, float learningRate, float weightDecay, long seed) {}

  /**
   * Norm, clip coefficient and finite flag into {@code state}, of {@code g[n]} and all that came
   * since the last {@code begin}.
   */
  public void gradientNorm(long n, long g, boolean begin, float maxNorm, long state) {
    NativeStatus.check(
        Abi.lethe_gradient_norm_part(ops.backend().handle(), n, g, begin ? 1 : 0, maxNorm, state));
  }

  /**
   * One AdamW update of a part, or none when {@code state} says not finite.
   *
   * @param last whether it is the step's last part, which counts the step
   */
  public void adamw(Part part, Update update, boolean last, long state) {
    AdamWSettings s = update.settings();
    Moments moments = part.moments();
    NativeStatus.check(
        Abi.lethe_adamw_part(
            ops.backend().handle(),
            ops.dtype().code(),
            part.n(),
            part.first(),
            part.p(),
            moments.m(),
            moments.v(),
            moments.mScale(),
            moments.vScale(),
            moments.maps(),
            part.g(),
            part.copy(),
            update.learningRate(),
            s.beta1(),
            s.beta2(),
            s.eps(),
            update.weightDecay(),
            update.seed(),
            last ? 1 : 0,
            state));
  }
}
