package org.lethe.torch;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.io.IOException;
import java.net.InetAddress;
import java.net.ServerSocket;
import java.nio.ByteBuffer;
import java.nio.FloatBuffer;
import java.nio.file.Files;
import java.nio.file.Path;
import java.time.Duration;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.ExecutionException;
import org.bytedeco.javacpp.Pointer;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.ValueSource;
import org.lethe.EnvironmentException;
import org.lethe.UserException;
import org.lethe.train.Collective;

class GlooCollectiveTest {
  private static final Duration LONG = Duration.ofSeconds(60);
  private static final Duration SHORT = Duration.ofMillis(300);

  @TempDir private Path directory;

  /** What one process gets that adds the ranks' numbers in order. */
  private static byte[] expected(int size) {
    ByteBuffer out = ByteBuffer.allocate(1 << 20);
    for (int sum = 0; sum < GlooRank.SUMS; sum++) {
      float[] floats = GlooRank.floats(0, sum);
      double[] doubles = GlooRank.doubles(0, sum);
      for (int rank = 1; rank < size; rank++) {
        float[] otherFloats = GlooRank.floats(rank, sum);
        double[] otherDoubles = GlooRank.doubles(rank, sum);
        for (int i = 0; i < floats.length; i++) {
          floats[i] += otherFloats[i];
        }
        for (int i = 0; i < doubles.length; i++) {
          doubles[i] += otherDoubles[i];
        }
      }
      out.putFloat(1).putFloat(floats.length + 1).putFloat(5);
      for (float value : floats) {
        out.putFloat(value);
      }
      out.putFloat(6);
      for (double value : doubles) {
        out.putDouble(value);
      }
    }
    return Arrays.copyOf(out.array(), out.position());
  }

  @ParameterizedTest
  @ValueSource(ints = {1, 2, 3, 5})
  void threadsGetTheBitsOfOneProcess(int size) throws Exception {
    Path file = directory.resolve("meet");
    List<byte[]> results = Ranks.together(size, rank -> sums(file, rank, size));
    for (byte[] result : results) {
      assertArrayEquals(expected(size), result);
    }
    assertFalse(Files.exists(file), "the last rank deletes the file");
  }

  /** A JVM for each rank, which writes to a file of its own. */
  private List<Jvm> processes(Path file, String... results) {
    List<Jvm> ranks = new ArrayList<>();
    for (int rank = 0; rank < results.length; rank++) {
      ranks.add(
          Jvm.start(
              directory.resolve("log" + rank),
              GlooRank.class,
              file.toString(),
              String.valueOf(rank),
              String.valueOf(results.length),
              results[rank]));
    }
    return ranks;
  }

  @Test
  void processesGetTheBitsOfOneProcess() throws IOException {
    Path zero = directory.resolve("zero");
    Path one = directory.resolve("one");
    for (Jvm rank : processes(directory.resolve("meet"), zero.toString(), one.toString())) {
      assertEquals(0, rank.await(), rank.output());
    }
    assertArrayEquals(expected(2), Files.readAllBytes(zero));
    assertArrayEquals(expected(2), Files.readAllBytes(one));
  }

  @Test
  void whatARunLeftThatDiedDoesNotMisleadTheNext() throws Exception {
    Path file = directory.resolve("meet");
    Jvm run = Jvm.start(directory.resolve("log"), GlooRank.class, file.toString(), GlooRank.HALT);
    assertEquals(GlooRank.HALTED, run.await(), run.output());
    assertTrue(Files.exists(file), "nothing was left behind");
    EnvironmentException alone =
        assertThrows(
            EnvironmentException.class,
            () -> GlooCollective.overFile(file, GlooCollective.Place.local(0, 2, SHORT)));
    contains(alone, "rank 0 of 2", "for rank 1, which did not come");
    for (byte[] result : Ranks.together(2, rank -> sums(file, rank, 2))) {
      assertArrayEquals(expected(2), result);
    }
  }

  private static byte[] sums(Path file, int rank, int size) {
    GlooCollective.Place place = GlooCollective.Place.local(rank, size, LONG);
    try (Collective collective = GlooCollective.overFile(file, place)) {
      assertEquals(rank, collective.rank());
      assertEquals(size, collective.size());
      return GlooRank.sums(collective);
    }
  }

  @Test
  void ranksMeetOverTheNetwork() throws Exception {
    int port;
    try (ServerSocket free = new ServerSocket(0, 1, InetAddress.getLoopbackAddress())) {
      port = free.getLocalPort();
    }
    List<byte[]> results =
        Ranks.together(
            2,
            rank -> {
              GlooCollective.Place place = GlooCollective.Place.local(rank, 2, LONG);
              try (Collective c = GlooCollective.overTcp("127.0.0.1", port, place)) {
                return GlooRank.sums(c);
              }
            });
    assertArrayEquals(expected(2), results.get(0));
    assertArrayEquals(expected(2), results.get(1));
    EnvironmentException alone =
        assertThrows(
            EnvironmentException.class,
            () ->
                GlooCollective.overTcp("127.0.0.1", port, GlooCollective.Place.local(1, 2, SHORT)));
    contains(alone, "rank 1 of 2", "rank 0 at 127.0.0.1:" + port, "0.3 s", "start it");
  }

  @Test
  void aRankThatNeverComesIsNamed() {
    Path file = directory.resolve("meet");
    EnvironmentException e =
        assertThrows(
            EnvironmentException.class,
            () -> GlooCollective.overFile(file, GlooCollective.Place.local(1, 3, SHORT)));
    contains(e, "rank 1 of 3", "rank 0, 2", "0.3 s", file.toString(), "start every rank");
  }

  @Test
  void aRankThatEndsInTheMiddleIsAnError() throws Exception {
    Path file = directory.resolve("meet");
    List<Throwable> failures =
        Ranks.together(
            2,
            rank -> {
              try (GlooCollective c =
                  GlooCollective.overFile(file, GlooCollective.Place.local(rank, 2, SHORT))) {
                c.barrier();
                if (rank == 1) {
                  return null;
                }
                EnvironmentException e =
                    assertThrows(EnvironmentException.class, () -> c.sum(new double[4]));
                UserException again = assertThrows(UserException.class, () -> c.sum(new double[4]));
                assertTrue(again.getMessage().contains("make a new one"), again.getMessage());
                return e;
              }
            });
    contains(failures.get(0), "rank 0 of 2", "4 numbers", "rank 1", "0.3 s", "start all ranks");
  }

  @Test
  void aRankThatIsLateIsAnErrorAndNotAWaitWithoutEnd() throws Exception {
    Path file = directory.resolve("meet");
    CountDownLatch over = new CountDownLatch(1);
    List<Throwable> failures =
        Ranks.together(
            2,
            rank -> {
              try (GlooCollective c =
                  GlooCollective.overFile(file, GlooCollective.Place.local(rank, 2, SHORT))) {
                if (rank == 1) {
                  over.await();
                  return null;
                }
                try {
                  return assertThrows(EnvironmentException.class, c::barrier);
                } finally {
                  over.countDown();
                }
              }
            });
    contains(failures.get(0), "rank 0 of 2", "rank 1", "0.3 s", "raise the timeout");
  }

  @Test
  void badInputIsRefused() throws Exception {
    UserException rank =
        assertThrows(UserException.class, () -> GlooCollective.Place.local(2, 2, LONG));
    assertTrue(rank.getMessage().contains("0 to size - 1"), rank.getMessage());
    assertThrows(UserException.class, () -> GlooCollective.Place.local(0, 1, Duration.ZERO));
    GlooCollective.Place alone = GlooCollective.Place.local(0, 1, LONG);
    assertThrows(UserException.class, () -> GlooCollective.overTcp("localhost", 0, alone));
    GlooCollective closed = GlooCollective.overFile(directory.resolve("meet"), alone);
    UserException heap =
        assertThrows(UserException.class, () -> closed.sum(FloatBuffer.allocate(3)));
    assertTrue(heap.getMessage().contains("allocateDirect"), heap.getMessage());
    closed.sum(new double[0]);
    closed.sum(GlooRank.direct(0));
    closed.close();
    closed.close();
    Path nowhere = directory.resolve("absent").resolve("meet");
    EnvironmentException absent =
        assertThrows(EnvironmentException.class, () -> GlooCollective.overFile(nowhere, alone));
    contains(absent, "rank 0 of 1", "absent", "that exists and is writable");
    assertThrows(UserException.class, closed::barrier);
  }

  /** Neither handles nor files are left. */
  @Test
  void manyCollectivesComeAndGo() throws Exception {
    long bytes = 0;
    for (int i = 0; i < 12; i++) {
      Path file = directory.resolve("meet" + i);
      long files = Ranks.together(2, rank -> sums(file, rank, 2)).size();
      assertEquals(2, files);
      assertFalse(Files.exists(file));
      bytes = i == 1 ? Pointer.totalBytes() : bytes;
    }
    // Less where the collector has meanwhile found what other tests left.
    assertTrue(Pointer.totalBytes() <= bytes, "grew from " + bytes);
  }

  @Test
  void manySumsLeaveNothingBehind() throws Exception {
    Path file = directory.resolve("meet");
    Ranks.together(
        2,
        rank -> {
          try (GlooCollective c =
              GlooCollective.overFile(file, GlooCollective.Place.local(rank, 2, LONG))) {
            FloatBuffer values = GlooRank.direct(256);
            c.sum(values);
            c.barrier();
            c.barrier();
            long bytes = Pointer.totalBytes();
            for (int i = 0; i < 100; i++) {
              c.sum(values);
            }
            c.barrier();
            // The other rank may hold a few handles of its own at this moment.
            assertTrue(Pointer.totalBytes() - bytes < 4096, "grew from " + bytes);
            return null;
          } catch (EnvironmentException e) {
            throw new ExecutionException(e);
          }
        });
  }

  private static void contains(Throwable e, String... parts) {
    for (String part : parts) {
      assertTrue(e.getMessage().contains(part), e.getMessage());
    }
  }
}
