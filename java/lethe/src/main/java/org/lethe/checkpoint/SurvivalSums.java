package org.lethe.checkpoint;

/** Adds up a {@link Survival}. */
final class SurvivalSums {
  private double stored;
  private double along;
  private double delta;
  private long moved;
  private long unmoved;

  void add(float before, float after, double d) {
    double change = (double) after - before;
    stored += change * change;
    along += change * d;
    delta += d * d;
    if (d != 0) {
      if (change == 0) {
        unmoved++;
      } else {
        moved++;
      }
    }
  }

  Survival result() {
    return new Survival(
        Math.sqrt(stored) / Math.sqrt(delta),
        along / delta,
        moved + unmoved == 0 ? Double.NaN : (double) unmoved / (moved + unmoved));
  }
}
