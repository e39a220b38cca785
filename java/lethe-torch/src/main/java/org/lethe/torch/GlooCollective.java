package org.lethe.torch;

import java.nio.ByteOrder;
import java.nio.FloatBuffer;
import java.nio.file.Files;
import java.nio.file.Path;
import java.time.Duration;
import java.util.ArrayList;
import java.util.List;
import java.util.Locale;
import java.util.function.Supplier;
import org.bytedeco.javacpp.DoublePointer;
import org.bytedeco.javacpp.FloatPointer;
import org.bytedeco.javacpp.Loader;
import org.bytedeco.javacpp.PointerScope;
import org.bytedeco.javacpp.chrono.Milliseconds;
import org.bytedeco.pytorch.FileStore;
import org.bytedeco.pytorch.ProcessGroupGloo;
import org.bytedeco.pytorch.Store;
import org.bytedeco.pytorch.TCPStore;
import org.bytedeco.pytorch.TCPStoreOptions;
import org.bytedeco.pytorch.Tensor;
import org.bytedeco.pytorch.TensorOptions;
import org.bytedeco.pytorch.Work;
import org.bytedeco.pytorch.global.torch;
import org.bytedeco.pytorch.global.torch.ScalarType;
import org.bytedeco.pytorch.global.torch_gloo;
import org.lethe.EnvironmentException;
import org.lethe.UserException;
import org.lethe.train.Collective;

/**
 * Sums between processes by c10d's Gloo: an all-gather, then the ranks' numbers added in rank order
 * by each rank for itself, so that all have the same bits. (Gloo's own all-reduce adds in an order
 * that depends on the number of ranks and on the place in the array.)
 *
 * <p>Gloo itself writes a line to the process's standard output when the ranks have met.
 *
 * <p>Memory for every rank's numbers is taken at the first sum and kept: size × the longest sum.
 * After a failure the collective is of no more use: ranks may stand at different sums. Only one
 * thread may call it; two ranks of one process need two threads.
 */
public final class GlooCollective implements Collective {
  private final Place place;
  private final Store store;
  private final ProcessGroupGloo group;
  private Tensor floats;
  private Tensor doubles;
  private boolean failed;
  private boolean closed;

  /**
   * One rank among its group.
   *
   * @param rank this process, from 0
   * @param size how many there are; the same everywhere
   * @param address of this machine, on which the others reach it
   * @param timeout the longest wait for another rank, when meeting and in every sum
   */
  public record Place(int rank, int size, String address, Duration timeout) {
    public Place {
      if (size < 1 || rank < 0 || rank >= size) {
        throw new UserException(
            "rank " + rank + " of " + size + "; ranks are 0 to size - 1, size at least 1");
      }
      if (timeout.compareTo(Duration.ofMillis(1)) < 0) {
        throw new UserException("the timeout is " + timeout + "; give at least a millisecond");
      }
    }

    /** Ranks that all run on this machine. */
    public static Place local(int rank, int size, Duration timeout) {
      return new Place(rank, size, "127.0.0.1", timeout);
    }

    @Override
    public String toString() {
      return "rank " + rank + " of " + size;
    }

    private Milliseconds milliseconds() {
      return new Milliseconds(timeout.toMillis());
    }

    String waited() {
      return String.format(Locale.ROOT, "%.1f s", timeout.toMillis() / 1000.0);
    }
  }

  @SuppressWarnings("try") // The scope works by being open.
  private GlooCollective(Place place, Meeting meeting) {
    Loader.load(torch_gloo.class);
    this.place = place;
    try (PointerScope scope = new PointerScope()) {
      this.store = Ownership.keep(meeting.open());
      try {
        Store met = new GlooMeeting(shareable(store, place), place, meeting.where()).meet();
        this.group = Ownership.keep(connect(met, meeting.where()));
      } catch (RuntimeException e) {
        store.close();
        throw e;
      }
    }
  }

  /**
   * A store that may be passed on. JavaCPP's constructors of stores make plain objects that Java
   * deletes, while every native function that takes a store counts references to it and deletes it,
   * too; only what {@code clone} returns is counted from the start.
   */
  static Store shareable(Store constructed, Place place) {
    Store counted = constructed.clone();
    counted.setTimeout(place.milliseconds());
    return counted;
  }

  /** How ranks find each other. */
  private record Meeting(String where, Supplier<Store> store) {
    Store open() {
      return store.get();
    }
  }

  /**
   * Joins ranks that share a file system.
   *
   * @param file the same for all; made by whoever comes first, deleted by the last that closes.
   *     What an ended run left behind does no harm
   */
  public static GlooCollective overFile(Path file, Place place) {
    Path absolute = file.toAbsolutePath();
    if (!Files.isWritable(absolute.getParent())) {
      throw new EnvironmentException(
          place
              + " cannot write in "
              + absolute.getParent()
              + ", where ranks shall meet; give a file in a directory that exists and is writable");
    }
    String path = absolute.toString();
    return new GlooCollective(place, new Meeting(path, () -> new FileStore(path, place.size())));
  }

  /**
   * Joins ranks over the network; rank 0 listens.
   *
   * @param host where rank 0 runs, as the others reach it
   * @param port free on that machine
   */
  public static GlooCollective overTcp(String host, int port, Place place) {
    if (port < 1 || port > 0xffff) {
      throw new UserException("port " + port + " is not one; give 1 to 65535");
    }
    String where = host + ":" + port;
    return new GlooCollective(place, new Meeting(where, () -> tcpStore(host, port, place)));
  }

  private static Store tcpStore(String host, int port, Place place) {
    TCPStoreOptions options =
        new TCPStoreOptions()
            .port((short) port)
            .isServer(place.rank() == 0)
            .waitWorkers(false)
            .timeout(place.milliseconds());
    try {
      return new TCPStore(host, options);
    } catch (RuntimeException e) {
      String failure =
          place.rank() == 0
              ? " cannot listen on " + host + ":" + port + "; give a port that is free"
              : " waited "
                  + place.waited()
                  + " for rank 0 at "
                  + host
                  + ":"
                  + port
                  + "; start it there, or raise the timeout";
      throw new EnvironmentException(place + failure + " (" + firstLine(e) + ")", e);
    }
  }

  private ProcessGroupGloo connect(Store met, String where) {
    ProcessGroupGloo.Options options = new ProcessGroupGloo.Options(place.milliseconds());
    options.devices().push_back(ProcessGroupGloo.createDeviceForHostname(place.address()));
    try {
      return new ProcessGroupGloo(met, place.rank(), place.size(), options);
    } catch (RuntimeException e) {
      throw new EnvironmentException(
          place
              + " met the others at "
              + where
              + " but could not connect to them within "
              + place.waited()
              + "; check that address "
              + place.address()
              + " is reachable from them ("
              + firstLine(e)
              + ")",
          e);
    }
  }

  @Override
  public int rank() {
    return place.rank();
  }

  @Override
  public int size() {
    return place.size();
  }

  @Override
  public void sum(FloatBuffer values) {
    if (!values.isDirect() || values.order() != ByteOrder.nativeOrder()) {
      throw new UserException(
          "the numbers to sum are not in direct memory of native order; allocate them with"
              + " ByteBuffer.allocateDirect(...).order(ByteOrder.nativeOrder())");
    }
    int n = values.remaining();
    if (n == 0) {
      return;
    }
    requireOpen();
    floats = grown(floats, ScalarType.Float, n);
    // A slice: JavaCPP 1.5.13 mistakes the address of a buffer whose position is not 0.
    try (FloatPointer pointer = new FloatPointer(values.slice());
        Tensor mine = TorchTensors.tensor(pointer, ScalarType.Float, n)) {
      gatherAndAdd(mine, floats, n);
    }
  }

  @Override
  public void sum(double[] values) {
    int n = values.length;
    if (n == 0) {
      return;
    }
    requireOpen();
    doubles = grown(doubles, ScalarType.Double, n);
    try (DoublePointer pointer = new DoublePointer(values);
        TensorOptions options = new TensorOptions(ScalarType.Double);
        Tensor mine = torch.from_blob(pointer, new long[] {n}, options)) {
      gatherAndAdd(mine, doubles, n);
      pointer.get(values);
    }
  }

  @Override
  public void barrier() {
    sum(new double[1]);
  }

  @SuppressWarnings("try") // The scope works by being open.
  private void gatherAndAdd(Tensor mine, Tensor all, long n) {
    try (PointerScope scope = new PointerScope()) {
      Tensor gathered = all.narrow(0, 0, place.size() * n);
      exchange(mine, gathered, n);
      mine.copy_(gathered.narrow(0, 0, n));
      for (long rank = 1; rank < place.size(); rank++) {
        mine.add_(gathered.narrow(0, rank * n, n));
      }
    }
  }

  private void exchange(Tensor mine, Tensor gathered, long n) {
    failed = true;
    try {
      Work work = group._allgather_base(gathered, mine);
      work._wait();
    } catch (RuntimeException e) {
      throw new EnvironmentException(
          place
              + " summed "
              + n
              + " numbers and waited up to "
              + place.waited()
              + " for rank "
              + others()
              + "; one of them ended or is late: see what it reported, then start all ranks again,"
              + " or raise the timeout ("
              + firstLine(e)
              + ")",
          e);
    }
    failed = false;
  }

  private String others() {
    List<String> others = new ArrayList<>();
    for (int rank = 0; rank < place.size(); rank++) {
      if (rank != place.rank()) {
        others.add(String.valueOf(rank));
      }
    }
    return String.join(", ", others);
  }

  /** Room for every rank's numbers, kept from one sum to the next. */
  private Tensor grown(Tensor room, ScalarType type, long n) {
    long wanted = place.size() * n;
    if (room != null && room.numel() >= wanted) {
      return room;
    }
    if (room != null) {
      room.close();
    }
    return Ownership.own(() -> torch.empty(new long[] {wanted}, new TensorOptions(type), null));
  }

  private void requireOpen() {
    if (closed) {
      throw new UserException("this collective was closed; make a new one");
    }
    if (failed) {
      throw new UserException(
          "this collective failed before, and its ranks may stand at different sums; make a new one"
              + " on every rank");
    }
  }

  /** What Gloo says, without the places in its sources. */
  private static String firstLine(RuntimeException e) {
    String message = String.valueOf(e.getMessage()).lines().findFirst().orElse("");
    return message.replaceAll("\\[[^\\]]*\\.(cc|h|cpp):\\d+\\] ?", "");
  }

  @Override
  public void close() {
    if (!closed) {
      closed = true;
      for (Tensor room : new Tensor[] {floats, doubles}) {
        if (room != null) {
          room.close();
        }
      }
      group.close();
      store.close();
    }
  }
}
