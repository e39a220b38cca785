package org.lethe.torch;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;

import java.nio.file.Files;
import java.nio.file.Path;
import java.time.Duration;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;
import org.lethe.train.Collective;
import org.lethe.train.Sharding;

/** Processes that share out each step end with the bits of one that computes all shards. */
class DataParallelTest {
  @TempDir private Path directory;

  @Test
  void twoProcessesGiveTheBitsOfOne() throws Exception {
    String method = "NPO+KL";
    List<Jvm> ranks = new ArrayList<>();
    for (String rank : List.of("0", "1")) {
      ranks.add(
          Jvm.start(
              directory.resolve("log" + rank),
              ShardedRun.class,
              directory.resolve("meet").toString(),
              rank,
              "2",
              method,
              directory.resolve("out" + rank).toString()));
    }
    byte[] expected = ShardedRun.bits(method, Sharding.local(2));
    for (Jvm rank : ranks) {
      assertEquals(0, rank.await(), rank.output());
    }
    assertArrayEquals(expected, Files.readAllBytes(directory.resolve("out0")));
    assertArrayEquals(expected, Files.readAllBytes(directory.resolve("out1")));
    // The order of the sum shows: otherwise the comparison would be worth nothing.
    assertFalse(Arrays.equals(expected, ShardedRun.bits(method, Sharding.none())));
  }

  @ParameterizedTest
  @CsvSource({"ME+GD, 2", "DPO+AP, 3"})
  void threadsGiveTheBitsOfOne(String method, int size) throws Exception {
    byte[] expected = ShardedRun.bits(method, Sharding.local(size));
    Path file = directory.resolve("meet");
    for (byte[] found :
        Ranks.together(
            size,
            rank -> {
              GlooCollective.Place place =
                  GlooCollective.Place.local(rank, size, Duration.ofSeconds(60));
              try (Collective collective = GlooCollective.overFile(file, place)) {
                return ShardedRun.bits(method, Sharding.over(collective));
              }
            })) {
      assertArrayEquals(expected, found);
    }
  }
}
