package org.lethe.cuda;

import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.DoubleBuffer;
import java.nio.FloatBuffer;
import java.time.Duration;
import java.util.Locale;
import java.util.concurrent.locks.LockSupport;
import java.util.stream.Collectors;
import java.util.stream.IntStream;
import org.bytedeco.cuda.cudart.CUstream_st;
import org.bytedeco.cuda.global.nccl;
import org.bytedeco.cuda.nccl.ncclComm;
import org.bytedeco.javacpp.BytePointer;
import org.lethe.EnvironmentException;
import org.lethe.LetheException;
import org.lethe.UserException;
import org.lethe.train.Collective;

/**
 * Sums between processes, or threads, by NCCL over a communicator of the caller's: an all-gather on
 * the communicator's device, then the ranks' numbers added in rank order by each rank for itself,
 * so that all have the same bits, and those of one process. NCCL only moves bytes; its own
 * all-reduce adds in an order that depends on the number of ranks, on the devices' connections and
 * on the place in the array.
 *
 * <p>The numbers to sum are in host memory, as {@link Collective} has them: they pass through
 * pinned memory to the device and back, in pieces of at most 4 MiB a rank. Pinned and device memory
 * for one piece of every rank is taken at the start and given back by {@link #close}. The bits
 * depend on neither the pieces nor the stream.
 *
 * <p>No wait is without an end: what takes longer than the timeout, and what NCCL reports as
 * broken, is aborted, with the communicator; the ranks may stand at different sums then, and
 * nothing else ends NCCL's kernels. Only one thread may call a collective; two ranks of one process
 * need two threads, and two devices.
 */
public final class NcclCollective implements Collective {
  private static final long LARGEST_PIECE = 4L << 20;
  private static final long LARGEST_ROOM = 1L << 30;
  private static final long POLL_NANOS = 50_000;

  private final NcclCalls calls;
  private final NcclFaults faults;
  private final ncclComm communicator;
  private final CUstream_st stream;
  private final Duration timeout;
  private final int size;
  private final int rank;
  private final int device;
  private final int pieceBytes;
  private final NcclWatch watch;
  private BytePointer onDevice;
  private BytePointer pinned;
  private ByteBuffer room;
  private boolean failed;
  private boolean aborted;
  private boolean closed;

  NcclCollective(NcclCalls calls, ncclComm communicator, CUstream_st stream, Duration timeout) {
    if (communicator == null || communicator.isNull()) {
      throw new UserException("the communicator is null; make one with ncclCommInitRank first");
    }
    if (stream == null || stream.isNull()) {
      throw new UserException(
          "the stream is null; give the backend's (CudaStreams.of), one of cudaStreamCreate, or"
              + " CU_STREAM_LEGACY for the default stream");
    }
    if (timeout.compareTo(Duration.ofMillis(1)) < 0) {
      throw new UserException("the timeout is " + timeout + "; give at least a millisecond");
    }
    this.calls = calls;
    this.faults = new NcclFaults(calls);
    this.communicator = communicator;
    this.stream = stream;
    this.timeout = timeout;
    int[] out = new int[1];
    faults.checkNccl("an NCCL collective", "ncclCommCount", calls.count(communicator, out));
    this.size = out[0];
    faults.checkNccl("an NCCL collective", "ncclCommUserRank", calls.userRank(communicator, out));
    this.rank = out[0];
    faults.checkNccl(toString(), "ncclCommCuDevice", calls.device(communicator, out));
    this.device = out[0];
    long piece = Math.min(LARGEST_PIECE, LARGEST_ROOM / size);
    this.pieceBytes = (int) (piece / Double.BYTES * Double.BYTES);
    allocate();
    this.watch = new NcclWatch(calls, communicator, timeout);
  }

  /**
   * Sums over the ranks of a communicator.
   *
   * @param communicator neither finalised nor aborted; the caller's to destroy, after {@link
   *     #close} of this. One that does not block is as good
   * @param stream of the communicator's device, the caller's; what stands on it before a sum counts
   *     for the sum's time. The backend's ({@link CudaStreams#of}), or any other
   * @param timeout the longest wait in every sum, for each piece of it
   * @throws EnvironmentException when the machine lacks the driver, CUDA's runtime or NCCL
   */
  public static NcclCollective over(ncclComm communicator, CUstream_st stream, Duration timeout) {
    CudaPresets.requireNccl();
    return new NcclCollective(new NcclPresets(), communicator, stream, timeout);
  }

  /**
   * The communicator that was handed in.
   *
   * @throws UserException when a sum has failed: it was aborted, which freed it
   */
  public ncclComm communicator() {
    if (aborted) {
      throw new UserException(
          "the communicator was aborted when a sum failed; make a new one on every rank, and do not"
              + " destroy this one");
    }
    return communicator;
  }

  @Override
  public int rank() {
    return rank;
  }

  @Override
  public int size() {
    return size;
  }

  @Override
  public void sum(FloatBuffer values) {
    int most = pieceBytes / Float.BYTES;
    for (int at = values.position(); at < values.limit(); at += most) {
      int n = Math.min(most, values.limit() - at);
      FloatBuffer piece = values.slice(at, n);
      requireOpen();
      slot(rank, n * Float.BYTES).asFloatBuffer().put(piece.duplicate());
      exchange(n, n * Float.BYTES);
      piece.duplicate().put(slot(0, n * Float.BYTES).asFloatBuffer());
      for (int r = 1; r < size; r++) {
        FloatBuffer next = slot(r, n * Float.BYTES).asFloatBuffer();
        for (int i = 0; i < n; i++) {
          piece.put(i, piece.get(i) + next.get(i));
        }
      }
    }
  }

  @Override
  public void sum(double[] values) {
    int most = pieceBytes / Double.BYTES;
    for (int at = 0; at < values.length; at += most) {
      int n = Math.min(most, values.length - at);
      requireOpen();
      slot(rank, n * Double.BYTES).asDoubleBuffer().put(values, at, n);
      exchange(n, n * Double.BYTES);
      slot(0, n * Double.BYTES).asDoubleBuffer().get(values, at, n);
      for (int r = 1; r < size; r++) {
        DoubleBuffer next = slot(r, n * Double.BYTES).asDoubleBuffer();
        for (int i = 0; i < n; i++) {
          values[at + i] += next.get(i);
        }
      }
    }
  }

  @Override
  public void barrier() {
    sum(new double[1]);
  }

  /** Where a rank's numbers of a piece are in pinned memory. */
  private ByteBuffer slot(int of, int bytes) {
    return room.slice(of * bytes, bytes).order(ByteOrder.nativeOrder());
  }

  /** Fills the other ranks' places in pinned memory, of so many bytes each. */
  private void exchange(int n, int bytes) {
    failed = true;
    long mine = (long) rank * bytes;
    boolean done = false;
    try {
      int copied = calls.copy(onDevice.position(mine), pinned.position(mine), bytes, stream);
      faults.checkCuda(toString(), "cudaMemcpyAsync", copied);
      gather(n, mine, bytes);
      done = true;
    } finally {
      if (!done && !aborted) {
        aborted = true;
        calls.abort(communicator);
      }
    }
    failed = false;
  }

  /** The all-gather and the copy back, until both are done or given up. */
  private void gather(int n, long mine, int bytes) {
    BytePointer send = new BytePointer(onDevice).position(mine);
    NcclWatch.Exchange exchange = watch.begin();
    LetheException fault;
    NcclWatch.Verdict verdict = NcclWatch.Verdict.CAME_BACK;
    try {
      fault = gatherAndWait(exchange, send, bytes);
    } finally {
      verdict = exchange.end();
      aborted = verdict != NcclWatch.Verdict.CAME_BACK;
    }
    if (verdict == NcclWatch.Verdict.BROKEN) {
      throw faults.ofNccl(toString(), "while it summed " + n + " numbers", exchange.error());
    } else if (verdict == NcclWatch.Verdict.LATE) {
      throw late(n);
    } else if (fault != null) {
      throw fault;
    }
  }

  private LetheException gatherAndWait(NcclWatch.Exchange exchange, BytePointer send, int bytes) {
    int gathered = calls.allGather(send, onDevice.position(0), bytes, communicator, stream);
    while (gathered == nccl.ncclInProgress && exchange.inProgress()) {
      LockSupport.parkNanos(POLL_NANOS);
    }
    if (gathered != nccl.ncclSuccess && gathered != nccl.ncclInProgress) {
      return faults.ofNccl(toString(), "ncclAllGather", gathered);
    }
    long all = (long) size * bytes;
    int status = calls.copy(pinned.position(0), onDevice.position(0), all, stream);
    if (status == 0) {
      status = calls.synchronize(stream);
    }
    return status == 0 ? null : faults.ofCuda(toString(), "cudaStreamSynchronize", status);
  }

  private EnvironmentException late(int n) {
    return new EnvironmentException(
        String.format(
            Locale.ROOT,
            "%s summed %d numbers and waited %.1f s for rank %s; one of them ended or is late: see"
                + " what it reported, then start all ranks again, or raise the timeout",
            this,
            n,
            timeout.toMillis() / 1000.0,
            IntStream.range(0, size)
                .filter(r -> r != rank)
                .mapToObj(String::valueOf)
                .collect(Collectors.joining(", "))));
  }

  private void requireOpen() {
    if (closed) {
      throw new UserException("this collective was closed; make a new one");
    }
    if (failed) {
      throw new UserException(
          "this collective failed before, and its ranks may stand at different sums; make a new"
              + " communicator and a new collective on every rank");
    }
  }

  /** Takes both memories, on the communicator's device, and leaves the current device as it was. */
  private void allocate() {
    long bytes = (long) size * pieceBytes;
    int[] before = new int[1];
    faults.checkCuda(toString(), "cudaGetDevice", calls.currentDevice(before));
    faults.checkCuda(toString(), "cudaSetDevice", calls.select(device));
    try {
      String what = " of " + bytes + " bytes";
      BytePointer[] out = new BytePointer[1];
      faults.checkCuda(toString(), "cudaMalloc" + what, calls.allocate(bytes, out));
      onDevice = out[0].capacity(bytes);
      faults.checkCuda(toString(), "cudaHostAlloc" + what, calls.allocatePinned(bytes, out));
      pinned = out[0].capacity(bytes);
    } catch (RuntimeException e) {
      free();
      throw e;
    } finally {
      calls.select(before[0]);
    }
    room = pinned.asBuffer();
  }

  private void free() {
    // After a failure these may answer with it once more.
    if (onDevice != null) {
      calls.free(onDevice.position(0));
    }
    if (pinned != null) {
      calls.freePinned(pinned.position(0));
    }
    onDevice = null;
    pinned = null;
  }

  /** Gives the memory back; the communicator and the stream remain the caller's. */
  @Override
  public void close() {
    if (!closed) {
      closed = true;
      watch.close();
      room = null;
      free();
    }
  }

  @Override
  public String toString() {
    return "rank " + rank + " of " + size;
  }
}
