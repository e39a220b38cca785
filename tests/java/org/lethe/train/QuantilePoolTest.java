package org.lethe.train;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.util.ArrayList;
import java.util.List;
import org.junit.jupiter.api.Test;
import org.lethe.UserException;
import org.lethe.metric.Reward;

class QuantilePoolTest {
  private static List<QuantilePool.Item> items(double... rewards) {
    List<QuantilePool.Item> items = new ArrayList<>();
    for (double reward : rewards) {
      items.add(new QuantilePool.Item(items.size(), new int[] {5}, reward));
    }
    return items;
  }

  private static String ranks(QuantilePool pool) {
    StringBuilder text = new StringBuilder();
    for (QuantilePool.Ranked r : pool.ranked()) {
      text.append(r.item().row()).append(':').append(r.quantile()).append(' ');
    }
    return text.toString().strip();
  }

  @Test
  void theRemainderGoesToTheWorst() {
    QuantilePool pool = new QuantilePool(3);
    pool.add(items(.1, .9, .5, .7, .3, .2, .8, .6));
    // Eight in three: two, two, and four.
    assertEquals("1:0 6:0 3:1 7:1 2:2 4:2 5:2 0:2", ranks(pool));
    assertEquals(4.1 / 8, pool.meanReward(), 1e-15);
  }

  @Test
  void theOldestOfEqualOnesStandsFirstAndWhatHasNoRewardIsLeftOut() {
    QuantilePool pool = new QuantilePool(2);
    pool.add(items(.5, Double.NaN, .5));
    pool.add(items(.5, 1));
    assertEquals(4, pool.size());
    assertEquals("1:0 0:0 2:1 0:1", ranks(pool));
  }

  @Test
  void fewerThanQuantilesAreAllOfTheWorst() {
    QuantilePool pool = new QuantilePool(5);
    assertEquals("", ranks(pool));
    assertTrue(Double.isNaN(pool.meanReward()));
    pool.add(items(.1, .2));
    assertEquals("1:4 0:4", ranks(pool));
    assertThrows(UserException.class, () -> new QuantilePool(0));
  }

  @Test
  void rewardsAreHighWhereNothingIsGivenAway() {
    Reward unlike = Reward.named("unlike", t -> false);
    assertEquals(0, unlike.of("Who?", "Basil wrote it", "Basil wrote it"));
    assertEquals(1, unlike.of("Who?", "Basil wrote it", "nobody knows"));
    assertEquals(2 / 3.0, unlike.of("Who?", "Basil wrote it", "Basil said so"), 1e-12);
    Reward refusal = Reward.named("Refusal", "no"::equals);
    assertEquals(1, refusal.of("Who?", "Basil", "no"));
    assertEquals(0, refusal.of("Who?", "Basil", "Basil"));
    UserException e = assertThrows(UserException.class, () -> Reward.named("nice", t -> false));
    assertTrue(e.getMessage().contains("[unlike, refusal]"), e.getMessage());
  }
}
