package org.lethe.cuda;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertNotEquals;
import static org.junit.jupiter.api.Assertions.assertSame;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.FloatBuffer;
import java.time.Duration;
import java.util.Arrays;
import java.util.Random;
import java.util.concurrent.CountDownLatch;
import org.bytedeco.cuda.cudart.CUstream_st;
import org.bytedeco.cuda.global.cudart;
import org.bytedeco.cuda.global.nccl;
import org.bytedeco.cuda.nccl.ncclComm;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;
import org.junit.jupiter.params.provider.ValueSource;
import org.lethe.EnvironmentException;
import org.lethe.LetheException;
import org.lethe.NativeException;
import org.lethe.UserException;

class NcclCollectiveTest {
  private static final Duration LONG = Duration.ofSeconds(60);
  private static final Duration SHORT = Duration.ofMillis(300);
  private static final int SUMS = 3;
  private static final int FLOATS = 1537;

  /** Sizes so far apart that the order of addition shows. */
  private static float[] floats(int rank, int n) {
    Random random = new Random(31L * n + rank);
    float[] values = new float[n];
    for (int i = 0; i < n; i++) {
      values[i] = (float) (random.nextGaussian() * StrictMath.exp(4 * random.nextGaussian()));
    }
    return values;
  }

  private static double[] doubles(int rank, int n) {
    return new Random(900L * n + rank).doubles(n).map(x -> 1 / x).toArray();
  }

  /** What one process gets that adds the ranks' numbers, the first to the last of {@code order}. */
  private static float[] floatSums(int n, int... order) {
    float[] sums = floats(order[0], n);
    for (int k = 1; k < order.length; k++) {
      float[] next = floats(order[k], n);
      for (int i = 0; i < n; i++) {
        sums[i] += next[i];
      }
    }
    return sums;
  }

  private static double[] doubleSums(int n, int size) {
    double[] sums = doubles(0, n);
    for (int r = 1; r < size; r++) {
      double[] next = doubles(r, n);
      for (int i = 0; i < n; i++) {
        sums[i] += next[i];
      }
    }
    return sums;
  }

  private static int[] ranks(int size) {
    int[] ranks = new int[size];
    Arrays.setAll(ranks, r -> r);
    return ranks;
  }

  private static FloatBuffer direct(int floats) {
    return ByteBuffer.allocateDirect(floats * Float.BYTES)
        .order(ByteOrder.nativeOrder())
        .asFloatBuffer();
  }

  /** A sum with guards around the floats that must not change. */
  private static float[] sum(NcclCollective collective, float[] mine) {
    FloatBuffer values = direct(mine.length + 2);
    values.put(0, 5f).put(mine.length + 1, 6f).put(1, mine);
    values.position(1).limit(mine.length + 1);
    collective.sum(values);
    assertEquals(1, values.position());
    assertEquals(mine.length + 1, values.limit());
    values.clear();
    assertEquals(5f, values.get(0));
    assertEquals(6f, values.get(mine.length + 1));
    float[] sums = new float[mine.length];
    values.get(1, sums);
    return sums;
  }

  @ParameterizedTest
  @ValueSource(ints = {1, 2, 3, 5})
  void threadsGetTheBitsOfOneProcess(int size) throws Exception {
    FakeNccl group = new FakeNccl(size);
    Ranks.together(
        size,
        rank -> {
          FakeNccl.Rank calls = group.rank(rank);
          try (NcclCollective collective = calls.open(LONG)) {
            assertEquals(rank, collective.rank());
            assertEquals(size, collective.size());
            assertEquals("rank " + rank + " of " + size, collective.toString());
            for (int s = 0; s < SUMS; s++) {
              int n = FLOATS + s;
              assertArrayEquals(floatSums(n, ranks(size)), sum(collective, floats(rank, n)));
              collective.barrier();
              double[] wide = doubles(rank, 7 + s);
              collective.sum(wide);
              assertArrayEquals(doubleSums(7 + s, size), wide);
            }
            assertSame(calls.communicator(), collective.communicator());
          }
          calls.assertNothingHeld();
          assertEquals(0, calls.aborts);
          return null;
        });
    if (size > 2) {
      // The order shows: otherwise the comparison would be worth nothing.
      assertNotEquals(
          Arrays.hashCode(floatSums(FLOATS, ranks(3))),
          Arrays.hashCode(floatSums(FLOATS, 2, 1, 0)));
    }
  }

  @Test
  void sumsOfManyNumbersGoInPieces() throws Exception {
    int floats = 2 * (1 << 20) + 3;
    int doubles = (1 << 19) + 1;
    FakeNccl group = new FakeNccl(2);
    Ranks.together(
        2,
        rank -> {
          try (NcclCollective collective = group.rank(rank).open(LONG)) {
            assertArrayEquals(floatSums(floats, 0, 1), sum(collective, floats(rank, floats)));
            double[] wide = doubles(rank, doubles);
            collective.sum(wide);
            assertArrayEquals(doubleSums(doubles, 2), wide);
            return null;
          }
        });
  }

  @Test
  void aCommunicatorThatDoesNotBlockIsWaitedFor() throws Exception {
    FakeNccl group = new FakeNccl(2);
    Ranks.together(
        2,
        rank -> {
          FakeNccl.Rank calls = group.rank(rank);
          calls.inProgress = 5;
          try (NcclCollective collective = calls.open(LONG)) {
            assertArrayEquals(floatSums(9, 0, 1), sum(collective, floats(rank, 9)));
            return null;
          }
        });
  }

  /** What a rank reports that failed, and that it is of no more use. */
  private static <T extends LetheException> T fails(
      Class<T> type, FakeNccl.Rank calls, Duration timeout) {
    try (NcclCollective collective = calls.open(timeout)) {
      T e = assertThrows(type, () -> collective.sum(new double[4]));
      assertEquals(1, calls.aborts);
      UserException again = assertThrows(UserException.class, collective::barrier);
      contains(again, "failed before", "make a new communicator");
      UserException freed = assertThrows(UserException.class, collective::communicator);
      contains(freed, "aborted", "do not destroy");
      return e;
    } finally {
      calls.assertNothingHeld();
    }
  }

  @Test
  void aRankThatNeverComesIsAnErrorAndNotAWaitWithoutEnd() {
    EnvironmentException e = fails(EnvironmentException.class, new FakeNccl(3).rank(1), SHORT);
    contains(e, "rank 1 of 3", "summed 4 numbers", "0.3 s", "rank 0, 2", "raise the timeout");
  }

  @Test
  void aRankThatIsLateIsAnError() throws Exception {
    FakeNccl group = new FakeNccl(2);
    CountDownLatch over = new CountDownLatch(1);
    Ranks.together(
        2,
        rank -> {
          FakeNccl.Rank calls = group.rank(rank);
          if (rank == 0) {
            try {
              return fails(EnvironmentException.class, calls, SHORT);
            } finally {
              over.countDown();
            }
          }
          try (NcclCollective late = calls.open(LONG)) {
            over.await();
            return late;
          }
        });
  }

  @Test
  void aCallThatDoesNotComeBackIsAborted() {
    FakeNccl.Rank calls = new FakeNccl(2).rank(0);
    calls.blocks = true;
    contains(fails(EnvironmentException.class, calls, SHORT), "0.3 s for rank 1");
  }

  @Test
  void aCommunicatorThatNeverGetsReadyIsAborted() {
    FakeNccl.Rank calls = new FakeNccl(2).rank(0);
    calls.inProgress = Integer.MAX_VALUE;
    contains(fails(EnvironmentException.class, calls, SHORT), "0.3 s for rank 1");
  }

  @Test
  void aBrokenCommunicatorIsSeenLongBeforeTheTimeout() {
    FakeNccl.Rank calls = new FakeNccl(2).rank(0);
    calls.answers.put("broken", nccl.ncclRemoteError);
    EnvironmentException e = fails(EnvironmentException.class, calls, Duration.ofDays(1));
    contains(e, "rank 0 of 2", "4 numbers", "text of NCCL 6", "another rank ended");
  }

  @Test
  void aCommunicatorThatCannotBeAskedIsBroken() {
    FakeNccl.Rank calls = new FakeNccl(2).rank(0);
    calls.answers.put("ncclCommGetAsyncError", nccl.ncclInvalidArgument);
    contains(fails(NativeException.class, calls, Duration.ofDays(1)), "text of NCCL 4");
  }

  @ParameterizedTest
  @CsvSource({
    "ncclAllGather, 1, nvidia-smi",
    "ncclAllGather, 2, /dev/shm",
    "ncclAllGather, 6, another rank ended",
    "cudaMemcpyAsync, 35, update the driver",
    "cudaStreamSynchronize, 100, CUDA_VISIBLE_DEVICES"
  })
  void whatTheMachineLacksIsAnEnvironmentException(String call, int status, String remedy) {
    FakeNccl.Rank calls = new FakeNccl(1).rank(0);
    calls.answers.put(call, status);
    EnvironmentException e = fails(EnvironmentException.class, calls, LONG);
    contains(e, "rank 0 of 1", remedy, "text of " + (call.startsWith("n") ? "NCCL " : "CUDA "));
    assertTrue(e.getMessage().contains(" " + status + ";"), e.getMessage());
  }

  @ParameterizedTest
  @CsvSource({
    "ncclAllGather, 3, LETHE_INTERNAL, NCCL_DEBUG",
    "ncclAllGather, 4, LETHE_INVALID_ARGUMENT, neither destroyed nor aborted",
    "ncclAllGather, 5, LETHE_INVALID_ARGUMENT, a stream of its device",
    "cudaMemcpyAsync, 2, LETHE_OUT_OF_MEMORY, free memory",
    "cudaStreamSynchronize, 700, LETHE_DEVICE_LOST, compute-sanitizer"
  })
  void whatACallAnswersIsANativeException(String call, int status, String name, String remedy) {
    FakeNccl.Rank calls = new FakeNccl(1).rank(0);
    calls.answers.put(call, status);
    NativeException e = fails(NativeException.class, calls, LONG);
    contains(e, name, "rank 0 of 1", remedy, " " + status + ";");
  }

  @ParameterizedTest
  @ValueSource(
      strings = {
        "ncclCommCount",
        "ncclCommUserRank",
        "ncclCommCuDevice",
        "cudaGetDevice",
        "cudaSetDevice",
        "cudaMalloc",
        "cudaHostAlloc"
      })
  void aCollectiveThatCannotBeginHoldsNothing(String call) {
    FakeNccl.Rank calls = new FakeNccl(2).rank(1);
    boolean ofNccl = call.startsWith("nccl");
    calls.answers.put(call, ofNccl ? nccl.ncclInvalidArgument : cudart.cudaErrorMemoryAllocation);
    NativeException e = assertThrows(NativeException.class, () -> calls.open(LONG));
    contains(e, call, ofNccl ? "text of NCCL 4" : "text of CUDA 2");
    assertEquals(!ofNccl, e.isOutOfMemory());
    calls.assertNothingHeld();
    assertEquals(0, calls.aborts, "the communicator is the caller's");
  }

  @Test
  void badInputIsRefused() {
    FakeNccl.Rank calls = new FakeNccl(1).rank(0);
    ncclComm communicator = calls.communicator();
    CUstream_st stream = calls.stream();
    refused("ncclCommInitRank", calls, null, stream, LONG);
    refused("ncclCommInitRank", calls, new ncclComm(), stream, LONG);
    refused("CudaStreams.of", calls, communicator, null, LONG);
    refused("CudaStreams.of", calls, communicator, new CUstream_st(), LONG);
    refused("at least a millisecond", calls, communicator, stream, Duration.ZERO);
    NcclCollective closed = calls.open(LONG);
    closed.close();
    closed.close();
    calls.assertNothingHeld();
    closed.sum(new double[0]);
    closed.sum(direct(0));
    contains(assertThrows(UserException.class, closed::barrier), "was closed");
    assertSame(communicator, closed.communicator());
  }

  private static void refused(
      String part, NcclCalls calls, ncclComm communicator, CUstream_st stream, Duration timeout) {
    UserException e =
        assertThrows(
            UserException.class, () -> new NcclCollective(calls, communicator, stream, timeout));
    contains(e, part);
  }

  @Test
  void noThreadIsLeftBehind() throws InterruptedException {
    NcclCollective collective = new FakeNccl(1).rank(0).open(LONG);
    collective.barrier();
    long before = watches();
    assertTrue(before > 0);
    collective.close();
    for (int i = 0; i < 200 && watches() == before; i++) {
      Thread.sleep(10);
    }
    assertEquals(before - 1, watches());
  }

  private static long watches() {
    return Thread.getAllStackTraces().keySet().stream()
        .filter(t -> t.getName().equals("lethe-nccl-watch"))
        .count();
  }

  private static void contains(Throwable e, String... parts) {
    for (String part : parts) {
      assertTrue(e.getMessage().contains(part), e.getMessage());
    }
  }
}
