package org.lethe.train;

import java.util.ArrayList;
import java.util.Comparator;
import java.util.List;
import org.lethe.UserException;

/**
 * Quark's pool (Lu et al., arXiv 2205.13636; data_pool.py of GXimingLu/Quark): every answer that
 * was ever sampled, sorted by its reward and cut into K quantiles, of which 0 is the best. When the
 * number of answers is no multiple of K the remainder goes to the worst; of answers with equal
 * rewards the older stand first.
 */
public final class QuantilePool {
  /**
   * A sampled answer.
   *
   * @param row which prompt it answers
   * @param answer token ids, the end of the sequence included where it was reached
   * @param reward the higher the better; NaN where none could be given: it does not enter the pool
   */
  // The ids are read once, when the item becomes a sequence.
  @SuppressWarnings("ArrayRecordComponent")
  public record Item(int row, int[] answer, double reward) {}

  /** An item with its quantile, 0 the best. */
  public record Ranked(Item item, int quantile) {}

  private final int quantiles;
  private final List<Item> items = new ArrayList<>();

  /** An empty pool of {@code quantiles} at least 1. */
  public QuantilePool(int quantiles) {
    if (quantiles < 1) {
      throw new UserException("a pool of " + quantiles + " quantiles; give at least 1");
    }
    this.quantiles = quantiles;
  }

  /** Adds answers; those without a reward are left out. */
  public void add(List<Item> sampled) {
    sampled.stream().filter(item -> !Double.isNaN(item.reward())).forEach(items::add);
    items.sort(Comparator.comparingDouble(Item::reward).reversed());
  }

  /** All answers, best first, with their quantiles. */
  public List<Ranked> ranked() {
    int each = items.size() / quantiles;
    List<Ranked> ranked = new ArrayList<>();
    for (int i = 0; i < items.size(); i++) {
      int quantile = each == 0 ? quantiles - 1 : Math.min(i / each, quantiles - 1);
      ranked.add(new Ranked(items.get(i), quantile));
    }
    return ranked;
  }

  /** How many answers it holds. */
  public int size() {
    return items.size();
  }

  /** The mean reward; NaN of an empty pool. */
  public double meanReward() {
    return items.stream().mapToDouble(Item::reward).average().orElse(Double.NaN);
  }
}
