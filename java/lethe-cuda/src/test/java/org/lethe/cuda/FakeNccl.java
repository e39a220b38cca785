package org.lethe.cuda;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;

import java.time.Duration;
import java.util.ArrayDeque;
import java.util.Arrays;
import java.util.Deque;
import java.util.HashMap;
import java.util.HashSet;
import java.util.Map;
import java.util.Objects;
import java.util.Set;
import org.bytedeco.cuda.cudart.CUstream_st;
import org.bytedeco.cuda.global.nccl;
import org.bytedeco.cuda.nccl.ncclComm;
import org.bytedeco.javacpp.BytePointer;
import org.bytedeco.javacpp.Pointer;

/**
 * Threads of one process in place of devices. What is put on a rank's stream happens when the rank
 * waits for the stream, so that what is read before is not there yet.
 */
final class FakeNccl {
  private final int size;
  private final Map<Long, byte[][]> rounds = new HashMap<>();

  FakeNccl(int size) {
    this.size = size;
  }

  Rank rank(int rank) {
    return new Rank(rank);
  }

  /** One rank's calls, and what shall go wrong in them. */
  final class Rank implements NcclCalls {
    static final int DEVICE = 3;
    private static final int BEFORE = 1;

    /** Answers of calls, by name, instead of what they do. */
    final Map<String, Integer> answers = new HashMap<>();

    /** As many answers "in progress" as an all-gather of a communicator that does not block. */
    int inProgress;

    /** The all-gather's call does not come back by itself. */
    boolean blocks;

    int aborts;
    private final ncclComm communicator = new ncclComm(Pointer.malloc(1));
    private final CUstream_st stream = new CUstream_st(Pointer.calloc(1, 8));
    private final int rank;
    private final Deque<Runnable> work = new ArrayDeque<>();
    private final Set<Long> memory = new HashSet<>();
    private long round;
    private int pending;
    private int current = BEFORE;

    private Rank(int rank) {
      this.rank = rank;
    }

    NcclCollective open(Duration timeout) {
      return new NcclCollective(this, communicator, stream, timeout);
    }

    ncclComm communicator() {
      return communicator;
    }

    CUstream_st stream() {
      return stream;
    }

    /** Nothing is left of a collective that was closed. */
    void assertNothingHeld() {
      assertEquals(Set.of(), memory);
      assertEquals(BEFORE, current);
    }

    private int answer(String call) {
      return answers.getOrDefault(call, 0);
    }

    /** A communicator that was aborted is memory that was freed. */
    private int answer(String call, ncclComm of) {
      synchronized (FakeNccl.this) {
        assertEquals(communicator, of);
        assertEquals(0, aborts, call + " of an aborted communicator");
      }
      return answer(call);
    }

    @Override
    public int count(ncclComm of, int[] count) {
      count[0] = size;
      return answer("ncclCommCount", of);
    }

    @Override
    public int userRank(ncclComm of, int[] out) {
      out[0] = rank;
      return answer("ncclCommUserRank", of);
    }

    @Override
    public int device(ncclComm of, int[] out) {
      out[0] = DEVICE;
      return answer("ncclCommCuDevice", of);
    }

    @Override
    public int allGather(Pointer send, Pointer receive, long bytes, ncclComm of, CUstream_st on) {
      int answer = answer("ncclAllGather", of);
      assertEquals(stream, on);
      if (answer != nccl.ncclSuccess) {
        return answer;
      }
      if (blocks) {
        awaitAbort();
        return nccl.ncclInternalError;
      }
      BytePointer from = new BytePointer(send);
      BytePointer to = new BytePointer(receive);
      work.add(() -> gather(from, to, (int) bytes));
      synchronized (FakeNccl.this) {
        pending = inProgress;
        return pending > 0 ? nccl.ncclInProgress : nccl.ncclSuccess;
      }
    }

    private void awaitAbort() {
      synchronized (FakeNccl.this) {
        while (aborts == 0) {
          await();
        }
      }
    }

    private void await() {
      try {
        FakeNccl.this.wait();
      } catch (InterruptedException e) {
        throw new AssertionError(e);
      }
    }

    private void gather(BytePointer from, BytePointer to, int bytes) {
      byte[] mine = new byte[bytes];
      from.get(mine);
      byte[][] all;
      synchronized (FakeNccl.this) {
        all = rounds.computeIfAbsent(round++, r -> new byte[size][]);
        all[rank] = mine;
        FakeNccl.this.notifyAll();
        while (Arrays.stream(all).anyMatch(Objects::isNull)) {
          if (aborts > 0) {
            // As on a device: the kernel ends, and what it leaves is not to be used.
            return;
          }
          await();
        }
      }
      for (int r = 0; r < size; r++) {
        assertEquals(bytes, all[r].length, "ranks stand at different sums");
        to.position((long) r * bytes).put(all[r]);
      }
    }

    @Override
    public int asyncError(ncclComm of, int[] error) {
      synchronized (FakeNccl.this) {
        error[0] = pending > 0 ? nccl.ncclInProgress : answer("broken");
        pending = Math.max(0, pending - 1);
        return answer("ncclCommGetAsyncError", of);
      }
    }

    @Override
    public int abort(ncclComm of) {
      synchronized (FakeNccl.this) {
        answer("ncclCommAbort", of);
        aborts++;
        FakeNccl.this.notifyAll();
        return 0;
      }
    }

    @Override
    public String ncclText(int status) {
      return "text of NCCL " + status;
    }

    @Override
    public int currentDevice(int[] out) {
      out[0] = current;
      return answer("cudaGetDevice");
    }

    @Override
    public int select(int device) {
      int answer = answer("cudaSetDevice");
      current = answer == 0 ? device : current;
      return answer;
    }

    private int allocate(String call, long bytes, BytePointer[] out) {
      assertEquals(DEVICE, current);
      Pointer made = answer(call) == 0 ? Pointer.malloc(bytes) : null;
      out[0] = new BytePointer(made);
      if (made != null) {
        memory.add(made.address());
      }
      return answer(call);
    }

    private int release(BytePointer freed) {
      assertEquals(0, freed.position());
      assertFalse(!memory.remove(freed.address()), "freed twice, or never allocated");
      Pointer.free(freed);
      return 0;
    }

    @Override
    public int allocate(long bytes, BytePointer[] out) {
      return allocate("cudaMalloc", bytes, out);
    }

    @Override
    public int free(BytePointer freed) {
      return release(freed);
    }

    @Override
    public int allocatePinned(long bytes, BytePointer[] out) {
      return allocate("cudaHostAlloc", bytes, out);
    }

    @Override
    public int freePinned(BytePointer freed) {
      return release(freed);
    }

    @Override
    public int copy(Pointer to, Pointer from, long bytes, CUstream_st on) {
      assertEquals(stream, on);
      BytePointer target = new BytePointer(to);
      BytePointer source = new BytePointer(from);
      work.add(() -> Pointer.memcpy(target, source, bytes));
      return answer("cudaMemcpyAsync");
    }

    @Override
    public int synchronize(CUstream_st on) {
      assertEquals(stream, on);
      while (!work.isEmpty()) {
        work.remove().run();
      }
      return answer("cudaStreamSynchronize");
    }

    @Override
    public String cudaText(int status) {
      return "text of CUDA " + status;
    }
  }
}
