package org.lethe.kernels;

import java.nio.charset.StandardCharsets;
import java.util.List;
import java.util.Locale;
import org.bytedeco.javacpp.BytePointer;
import org.bytedeco.javacpp.LongPointer;
import org.bytedeco.javacpp.Pointer;
import org.lethe.EnvironmentException;
import org.lethe.NativeException;
import org.lethe.UserException;
import org.lethe.internal.abi.Abi;
import org.lethe.internal.abi.EngineHandle;

/**
 * One open device: the owner of every buffer allocated on it.
 *
 * <p>A backend and everything made from it belong to the thread that opened it; a call from another
 * thread is refused with a {@link NativeException}. Two backends share nothing and may run on two
 * threads. Closing a backend frees its buffers; using either afterwards is an exception, never a
 * crash.
 */
public final class Backend implements AutoCloseable {
  private static final int DESCRIPTION_BYTES = 1024;
  private static final String CUDA = "cuda";
  static final String OTHER = "other";

  private final EngineHandle engine;
  private final String description;
  private final OpenBuffers buffers = new OpenBuffers();
  private boolean closed;
  private long limit = Long.MAX_VALUE;

  private Backend(EngineHandle engine) {
    this.engine = engine;
    this.description = describe(engine);
  }

  /**
   * Opens a device with one thread per processor.
   *
   * @param device {@code "cpu"}
   */
  public static Backend open(String device) {
    return open(device, Runtime.getRuntime().availableProcessors());
  }

  /**
   * Opens a device.
   *
   * @param device {@code "cpu"}, or {@code "cpu_avx2"} / {@code "cpu_avx512"} for one instruction
   *     set; {@code "cuda"} or {@code "cuda:0"} for the first CUDA device, {@code "cuda:1"} for the
   *     second
   * @param threads how many threads an op uses on the host, at least 1; part of what makes results
   *     repeat to the bit
   * @throws EnvironmentException when this machine, or this build of Lethe, has no such device
   * @throws UserException when a number is asked for that no device can have
   */
  public static Backend open(String device, int threads) {
    requireNumber(device);
    String plugins = Natives.pluginDirectory().getAbsolutePath();
    EngineHandle engine = new EngineHandle(null);
    try {
      NativeStatus.check(Abi.lethe_engine_open(device, plugins, threads, engine));
    } catch (EnvironmentException e) {
      if (device.startsWith(CUDA) && !Natives.hasPlugin(CUDA)) {
        throw new EnvironmentException(
            "LETHE_NO_DEVICE: this build of Lethe brings no CUDA backend; build it where nvcc is"
                + " on PATH, or open \"cpu\"",
            e);
      }
      throw e;
    }
    return new Backend(engine);
  }

  /** Which one of its kind a device is: only CUDA devices are counted. */
  private static void requireNumber(String device) {
    int colon = device.indexOf(':');
    if (colon < 0) {
      return;
    }
    boolean counted = device.startsWith(CUDA);
    if (!counted || !device.substring(colon + 1).matches("\\d{1,9}")) {
      throw new UserException(
          "device is '"
              + device
              + "': "
              + (counted
                  ? "behind the colon stands the number of a device, as in cuda:0 or cuda:1"
                  : "only CUDA devices have numbers; write cpu, or cuda:0"));
    }
  }

  /**
   * One line of JSON: backend, instruction set, threads, library versions. With the inputs it
   * determines the bits.
   */
  public String description() {
    return description;
  }

  /** Whether Lethe here brings the plug-in of a backend, such as "cuda"; it may still not open. */
  public static boolean hasPlugin(String backend) {
    return Natives.hasPlugin(backend);
  }

  /** Whether its memory is the host's: the CPU backends. */
  public boolean isHost() {
    return description.contains("\"backend\":\"cpu\"");
  }

  /**
   * Waits until everything asked of the device is done. What its own memory's content made fail
   * since the last wait, such as an index outside its table, is thrown here.
   */
  public void synchronize() {
    NativeStatus.check(Abi.lethe_synchronize(handle()));
  }

  /** The device's memory at this moment; the host's where that is the device. */
  public Memory memory() {
    EngineHandle handle = handle();
    try (LongPointer free = new LongPointer(1);
        LongPointer total = new LongPointer(1)) {
      NativeStatus.check(Abi.lethe_memory(handle, free, total));
      return new Memory(free.get(), total.get());
    }
  }

  /**
   * Bytes of a device's memory.
   *
   * @param free what nobody uses
   * @param total all there is
   */
  public record Memory(long free, long total) {}

  /**
   * Takes scratch memory for ops of up to so many bytes now, where there is less: a graph captured
   * after this holds none that such an op would outgrow. The host's ops take none.
   *
   * @throws EnvironmentException when there is not so much
   */
  public void reserveScratch(long bytes) {
    if (isHost()) {
      return;
    }
    try {
      NativeStatus.check(Abi.lethe_reserve_scratch(handle(), bytes));
    } catch (NativeException e) {
      if (!e.isOutOfMemory()) {
        throw e;
      }
      throw new EnvironmentException(buffers.shortage(bytes, "scratch memory of ops", memory()), e);
    }
  }

  /**
   * The stream this backend works on, a {@code CUstream_st*}; work that others put there is ordered
   * with its own. LETHE_UNSUPPORTED on the CPU.
   */
  public Pointer stream() {
    Pointer stream = new Pointer();
    NativeStatus.check(Abi.lethe_stream(handle(), stream));
    return stream;
  }

  /**
   * Works on another stream from now on, after what was asked before.
   *
   * @param stream the caller's until another one is given or the backend closes; null: the
   *     backend's own again
   */
  public void useStream(Pointer stream) {
    NativeStatus.check(Abi.lethe_use_stream(handle(), stream));
  }

  /** Whether ops can be captured in graphs here: on devices that are not the host. */
  public boolean hasGraphs() {
    return !isHost();
  }

  /**
   * Captures ops instead of running them. They read and write buffers alone: copies from or to the
   * host, waits and allocations are refused meanwhile, and so are ops that need more scratch memory
   * than the same ops took before.
   *
   * @param ops what to capture; what it throws is thrown on, and there is no graph then
   */
  public Graph capture(Runnable ops) {
    return Graph.capture(this, ops);
  }

  /**
   * Writes every launch, copy and wait down, or no more; for tests and measurements. What stood
   * there is dropped when it begins. LETHE_UNSUPPORTED on the CPU.
   */
  public void recordLaunches(boolean on) {
    NativeStatus.check(Abi.lethe_record_launches(handle(), on ? 1 : 0));
  }

  /** One JSON object for each thing written down; {@code lethe.h} lists their fields. */
  public List<String> launches() {
    EngineHandle handle = handle();
    try (LongPointer needed = new LongPointer(1)) {
      NativeStatus.check(Abi.lethe_launches(handle, (BytePointer) null, 0, needed));
      long bytes = needed.get();
      try (BytePointer out = new BytePointer(Math.max(1, bytes))) {
        NativeStatus.check(Abi.lethe_launches(handle, out, bytes, needed));
        byte[] text = new byte[Math.toIntExact(Math.max(0, bytes - 1))];
        out.get(text);
        return new String(text, StandardCharsets.UTF_8).lines().toList();
      }
    }
  }

  /**
   * The address of memory of this backend's device, for another library of the same device; valid
   * until its buffer is closed.
   *
   * @param ref where it begins ({@link Buffer#at})
   * @param bytes how much of it will be used
   */
  public Pointer address(long ref, long bytes) {
    Pointer address = new Pointer();
    NativeStatus.check(Abi.lethe_address(handle(), ref, bytes, address));
    return address.capacity(bytes);
  }

  /** Allocates zeroed memory; see the other form. */
  public Buffer allocate(long bytes) {
    return allocate(bytes, OTHER);
  }

  /**
   * Allocates zeroed memory.
   *
   * @param bytes at least 1
   * @param purpose what it will hold, for messages about memory
   * @throws EnvironmentException when there is not so much: what was asked, what is free, what this
   *     backend holds
   */
  public Buffer allocate(long bytes, String purpose) {
    EngineHandle handle = handle();
    try (LongPointer out = new LongPointer(1)) {
      NativeStatus.check(Abi.lethe_buffer_alloc(handle, bytes, out));
      return buffers.add(new Buffer(this, out.get(), bytes, purpose, null));
    } catch (NativeException e) {
      if (!e.isOutOfMemory()) {
        throw e;
      }
      throw new EnvironmentException(buffers.shortage(bytes, purpose, memory()), e);
    }
  }

  /**
   * Allocates zeroed memory of the host that the device reaches over its bus, for what it shall not
   * hold all the time: {@link Ops#copyAside}. Not counted in {@link #allocatedBytes}.
   *
   * @param bytes at least 1
   * @param purpose what it will hold, for messages about memory
   * @throws EnvironmentException when the host has not so much
   */
  public Buffer allocateHost(long bytes, String purpose) {
    EngineHandle handle = handle();
    try (LongPointer out = new LongPointer(1)) {
      NativeStatus.check(Abi.lethe_buffer_alloc_host(handle, bytes, out));
      return buffers.add(new Buffer(this, out.get(), bytes, purpose, null, true));
    } catch (NativeException e) {
      if (!e.isOutOfMemory()) {
        throw e;
      }
      throw new EnvironmentException(
          "out of memory: " + purpose + " asked for " + amount(bytes) + " of the host's", e);
    }
  }

  /** A number of bytes as messages write it: exactly, and in a unit that can be read. */
  public static String amount(long bytes) {
    return bytes < 1 << 20
        ? bytes + " bytes"
        : String.format(Locale.ROOT, "%d bytes (%.1f MiB)", bytes, bytes / 1048576.0);
  }

  /**
   * A buffer over memory of another library, such as a tensor's: nothing is copied, either side
   * sees what the other writes. The memory must stay valid until the buffer is closed, which frees
   * nothing; {@code memory} itself is kept from the garbage collector that long.
   *
   * @param memory of this backend's device (cpu: host memory), from its position on
   * @param bytes at least 1, all inside the memory
   */
  public Buffer wrap(Pointer memory, long bytes) {
    EngineHandle handle = handle();
    long capacity = (memory.limit() - memory.position()) * memory.sizeof();
    // A pointer made from a bare address says 0: then only the caller knows how much there is.
    if (memory.limit() > 0 && bytes > capacity) {
      throw new UserException(
          bytes + " bytes are to be used of memory that has " + capacity + "; give fewer");
    }
    // Not closed: closing a view frees the memory behind it.
    Pointer first = new Pointer(memory);
    first.position(memory.position() * memory.sizeof());
    try (LongPointer out = new LongPointer(1)) {
      NativeStatus.check(Abi.lethe_buffer_wrap(handle, first, bytes, out));
      return buffers.add(new Buffer(this, out.get(), bytes, OTHER, memory));
    }
  }

  void release(Buffer buffer) {
    if (buffers.remove(buffer) && !closed) {
      NativeStatus.check(Abi.lethe_buffer_free(engine, buffer.id()));
    }
  }

  /**
   * From now on {@link #room} counts from so many bytes. Nothing is refused: whoever can do with
   * less asks first.
   */
  public void limit(long bytes) {
    limit = bytes;
  }

  /** Bytes that are left of {@link #limit}; a limit that was never set leaves any number. */
  public long room() {
    return limit == Long.MAX_VALUE ? limit : limit - allocatedBytes();
  }

  /** The most {@link #allocatedBytes} that there were at one time, counted from its last call. */
  public long mostAllocatedBytes() {
    return buffers.takeMost();
  }

  /** Bytes of the buffers that are open, without those that were lent. Its own thread alone. */
  public long allocatedBytes() {
    return buffers.bytes();
  }

  EngineHandle handle() {
    if (closed) {
      throw new UserException("this backend was closed; open a new one");
    }
    return engine;
  }

  @Override
  public void close() {
    if (!closed) {
      NativeStatus.check(Abi.lethe_engine_close(engine));
      closed = true;
      buffers.clear();
    }
  }

  boolean isClosed() {
    return closed;
  }

  private static String describe(EngineHandle engine) {
    try (BytePointer out = new BytePointer(DESCRIPTION_BYTES)) {
      NativeStatus.check(Abi.lethe_engine_describe(engine, out, DESCRIPTION_BYTES));
      // getString() takes the whole allocation, with what stands behind the end of the line.
      String allocated = out.getString(StandardCharsets.UTF_8);
      return allocated.substring(0, allocated.indexOf('\0'));
    }
  }
}
