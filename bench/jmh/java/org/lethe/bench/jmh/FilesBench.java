package org.lethe.bench.jmh;

import java.io.IOException;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.FloatBuffer;
import java.nio.channels.FileChannel;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.StandardOpenOption;
import java.util.List;
import java.util.concurrent.TimeUnit;
import java.util.stream.IntStream;
import org.lethe.checkpoint.FloatStream;
import org.lethe.checkpoint.SafetensorsFile;
import org.lethe.checkpoint.SafetensorsWriter;
import org.lethe.checkpoint.StoredDtype;
import org.lethe.checkpoint.TensorSpec;
import org.openjdk.jmh.annotations.AuxCounters;
import org.openjdk.jmh.annotations.Benchmark;
import org.openjdk.jmh.annotations.BenchmarkMode;
import org.openjdk.jmh.annotations.Fork;
import org.openjdk.jmh.annotations.Measurement;
import org.openjdk.jmh.annotations.Mode;
import org.openjdk.jmh.annotations.OutputTimeUnit;
import org.openjdk.jmh.annotations.Param;
import org.openjdk.jmh.annotations.Scope;
import org.openjdk.jmh.annotations.Setup;
import org.openjdk.jmh.annotations.State;
import org.openjdk.jmh.annotations.TearDown;
import org.openjdk.jmh.annotations.Warmup;

/**
 * Safetensors files in the page cache, written without fsync: what the code costs, not the disk. A
 * file has eight tensors of equal size; bytes are those of the tensors.
 */
@State(Scope.Thread)
@BenchmarkMode(Mode.Throughput)
@OutputTimeUnit(TimeUnit.SECONDS)
@Fork(1)
@Warmup(iterations = 3, time = 1)
@Measurement(iterations = 5, time = 1)
public class FilesBench {
  private static final int TENSORS = 8;
  private static final int PIECE = 4 << 20;

  /** Of a file's tensors together. */
  @Param("64")
  public int mebibytes;

  private Path directory;
  private Path written;
  private List<TensorSpec> wide;
  private List<TensorSpec> narrow;
  private Path wideFile;
  private Path narrowFile;
  private ByteBuffer piece;
  private float[] values;
  private long bytes;

  /** Bytes of tensors, per second. */
  @State(Scope.Thread)
  @AuxCounters(AuxCounters.Type.OPERATIONS)
  public static class PerSecond {
    /** As JMH reads it. */
    public long bytes;
  }

  /** Writes the files that are read, and checks that all ways give back what was written. */
  @Setup
  public void open() throws IOException {
    directory = Files.createTempDirectory("lethe-jmh");
    written = directory.resolve("written.safetensors");
    bytes = (long) mebibytes << 20;
    wide = specs(StoredDtype.F32);
    narrow = specs(StoredDtype.BF16);
    piece = ByteBuffer.allocateDirect(PIECE).order(ByteOrder.LITTLE_ENDIAN);
    values = new float[Math.toIntExact(bytes / TENSORS / Float.BYTES)];
    for (int i = 0; i < values.length; i++) {
      values[i] = i % 251 - 125;
    }
    wideFile = directory.resolve("wide.safetensors");
    narrowFile = directory.resolve("narrow.safetensors");
    writeValues(wideFile, wide);
    writeValues(narrowFile, narrow);
    for (Path file : List.of(wideFile, narrowFile)) {
      try (SafetensorsFile read = SafetensorsFile.open(file)) {
        for (String name : read.names()) {
          FloatStream.read(read, name, this::checkValues);
        }
      }
    }
    write();
    Check.that("two ways to write give one file", Files.mismatch(written, wideFile) == -1);
    Check.near("the sum of the mapped file", sumMapped(), TENSORS * sum(), 1e-12);
    Check.that("all bytes are read", readBytes() == bytes);
  }

  private List<TensorSpec> specs(StoredDtype dtype) {
    long elements = bytes / TENSORS * 8 / dtype.bits();
    return IntStream.range(0, TENSORS)
        .mapToObj(i -> TensorSpec.of("tensor." + i, dtype, elements))
        .toList();
  }

  private float value(long element) {
    return values[(int) (element % values.length)];
  }

  private double sum() {
    double sum = 0;
    for (float value : values) {
      sum += value;
    }
    return sum;
  }

  private void checkValues(String name, long first, FloatBuffer got) {
    for (int i = 0; i < got.limit(); i++) {
      if (got.get(i) != value(first + i)) {
        Check.that(name + " as written at " + (first + i), false);
      }
    }
  }

  /** Removes the files. */
  @TearDown
  public void close() {
    Texts.delete(directory);
  }

  private void writeValues(Path file, List<TensorSpec> specs) throws IOException {
    try (FileChannel channel = channel(file)) {
      SafetensorsWriter writer = new SafetensorsWriter(channel, specs);
      for (TensorSpec spec : specs) {
        FloatStream.write(writer, spec, this::give);
      }
      writer.finish();
    }
  }

  private void give(String name, long first, FloatBuffer into) {
    int at = (int) (first % values.length);
    while (into.hasRemaining()) {
      int n = Math.min(into.remaining(), values.length - at);
      into.put(values, at, n);
      at = 0;
    }
  }

  private static FileChannel channel(Path file) throws IOException {
    return FileChannel.open(
        file,
        StandardOpenOption.CREATE,
        StandardOpenOption.TRUNCATE_EXISTING,
        StandardOpenOption.WRITE);
  }

  private void write() throws IOException {
    try (FileChannel channel = channel(written)) {
      SafetensorsWriter writer = new SafetensorsWriter(channel, wide);
      for (TensorSpec spec : wide) {
        for (long at = 0; at < spec.bytes(); at += piece.limit()) {
          piece.clear().limit((int) Math.min(PIECE, spec.bytes() - at));
          piece.asFloatBuffer().put(values, (int) (at / Float.BYTES), piece.limit() / Float.BYTES);
          writer.write(spec.name(), piece);
        }
      }
      writer.finish();
    }
  }

  private long readBytes() {
    long total = 0;
    try (SafetensorsFile file = SafetensorsFile.open(wideFile)) {
      for (String name : file.names()) {
        long size = file.info(name).bytes();
        for (long at = 0; at < size; ) {
          int got = file.readInto(name, at, piece.clear());
          at += got;
          total += got;
        }
      }
    }
    return total;
  }

  private double sumMapped() {
    double sum = 0;
    try (SafetensorsFile file = SafetensorsFile.open(wideFile)) {
      for (String name : file.names()) {
        for (ByteBuffer slice : file.slices(name)) {
          FloatBuffer floats = slice.asFloatBuffer();
          float some = 0;
          for (int i = 0; i < floats.limit(); i++) {
            some += floats.get(i);
          }
          sum += some;
        }
      }
    }
    return sum;
  }

  @Benchmark
  @Shape("SafetensorsWriter.write, F32 in pieces of 4 MiB")
  public void writePieces(PerSecond per) throws IOException {
    write();
    per.bytes += bytes;
  }

  @Benchmark
  @Shape("FloatStream.write, floats to BF16")
  public void writeFloatsAsBf16(PerSecond per) throws IOException {
    writeValues(written, narrow);
    per.bytes += bytes;
  }

  @Benchmark
  @Shape("SafetensorsFile.open and readInto, F32 to direct memory in pieces of 4 MiB")
  public long readPieces(PerSecond per) {
    per.bytes += bytes;
    return readBytes();
  }

  @Benchmark
  @Shape("SafetensorsFile.open and slices, F32 mapped and summed up")
  public double readMapped(PerSecond per) {
    per.bytes += bytes;
    return sumMapped();
  }

  @Benchmark
  @Shape("FloatStream.read, BF16 to floats")
  public long readBf16AsFloats(PerSecond per) {
    long[] got = new long[1];
    try (SafetensorsFile file = SafetensorsFile.open(narrowFile)) {
      for (String name : file.names()) {
        FloatStream.read(file, name, (tensor, first, floats) -> got[0] += floats.remaining());
      }
    }
    per.bytes += bytes;
    return got[0];
  }
}
