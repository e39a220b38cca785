package org.lethe.cuda;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;

import java.time.Duration;
import java.util.Arrays;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;
import org.lethe.train.Collective;
import org.lethe.train.Sharding;

/** Ranks that share out each step end with the bits of one process that computes all shards. */
class DataParallelTest {
  @ParameterizedTest
  @CsvSource({"NPO+KL, 2", "DPO+AP, 3"})
  void ranksGiveTheBitsOfOne(String method, int size) throws Exception {
    byte[] expected = ShardedRun.bits(method, Sharding.local(size));
    FakeNccl group = new FakeNccl(size);
    for (byte[] found :
        Ranks.together(
            size,
            rank -> {
              try (Collective collective = group.rank(rank).open(Duration.ofSeconds(60))) {
                return ShardedRun.bits(method, Sharding.over(collective));
              }
            })) {
      assertArrayEquals(expected, found);
    }
    // The order of the sum shows: otherwise the comparison would be worth nothing.
    assertFalse(Arrays.equals(expected, ShardedRun.bits(method, Sharding.none())));
  }
}
