package org.lethe.method;

import org.lethe.InternalFaultException;

/**
 * A loss with its weight in an objective.
 *
 * @param weight finite, not negative
 */
public record Weighted(double weight, Loss loss) {
  public Weighted {
    if (!(weight >= 0 && Double.isFinite(weight))) {
      throw new InternalFaultException(loss.name() + " with a weight of " + weight);
    }
  }

  /** Whether it belongs to the forget side of a step's pairs. */
  public boolean forgets() {
    return loss.uses().get(0).role().forgets();
  }

  Weighted times(double factor) {
    return new Weighted(weight * factor, loss);
  }
}
