package org.lethe.metric;

import java.util.List;
import java.util.function.Predicate;

/** The share of generated answers that are refusals. */
public final class RefusalRate {
  private RefusalRate() {}

  /**
   * The share of refusals.
   *
   * @throws org.lethe.UserException when there is no answer
   */
  public static double of(List<String> generations, Predicate<String> isRefusal) {
    Means.requireSome(generations.size());
    return (double) generations.stream().filter(isRefusal).count() / generations.size();
  }
}
