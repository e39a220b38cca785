package org.lethe.train;

/** How the learning rate moves over a run: a linear warm-up, then one of three shapes. */
public enum Schedule {
  /** Stays at the peak. */
  CONSTANT,
  /** Falls in a straight line to 0 at the end. */
  LINEAR,
  /** Falls along half a cosine to 0 at the end (Loshchilov and Hutter 2017). */
  COSINE;

  /**
   * The learning rate of a step, as Hugging Face's schedulers count: step 0 of a warm-up of w is
   * 0/w of the peak.
   *
   * @param peak the learning rate at the end of the warm-up
   * @param step from 0
   * @param warmup steps of the warm-up
   * @param total steps of the run
   */
  public double rate(double peak, int step, int warmup, int total) {
    if (step < warmup) {
      return peak * step / warmup;
    }
    double progress = (double) (step - warmup) / Math.max(1, total - warmup);
    return switch (this) {
      case CONSTANT -> peak;
      case LINEAR -> peak * Math.max(0, 1 - progress);
      case COSINE -> peak * 0.5 * (1 + StrictMath.cos(StrictMath.PI * Math.min(1, progress)));
    };
  }
}
