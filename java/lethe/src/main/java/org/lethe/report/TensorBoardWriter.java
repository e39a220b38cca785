package org.lethe.report;

import java.io.IOException;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.channels.FileChannel;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.StandardOpenOption;
import java.util.Locale;
import java.util.Map;
import java.util.regex.Matcher;
import java.util.regex.Pattern;
import java.util.stream.Stream;
import java.util.zip.CRC32C;
import org.lethe.EnvironmentException;

/**
 * One event file that TensorBoard reads: TFRecords (length, masked CRC-32C of the length, data,
 * masked CRC-32C of the data; little-endian) of {@code Event} messages, the first of which names
 * the format. Sources: {@code tensorflow/core/lib/io/record_writer.h} and tensorboard's {@code
 * event.proto}, {@code summary.proto}, {@code tensor.proto}.
 *
 * <p>Every event is with the operating system when the call returns, so that TensorBoard can watch
 * and a killed process loses none. One thread at a time.
 *
 * <p>Wall times are seconds since 1970-01-01 UTC.
 */
public final class TensorBoardWriter implements AutoCloseable {
  private static final String FORMAT = "brain.Event:2";

  /** TensorBoard takes the files of a folder in the order of their names. */
  private static final Pattern NAME = Pattern.compile("events\\.out\\.tfevents\\.(\\d+)\\..*");

  private static final int CRC_MASK = 0xa282ead8;
  private static final int FRAME_BYTES = Long.BYTES + 2 * Integer.BYTES;

  // Fields of Event.
  private static final int WALL_TIME = 1;
  private static final int STEP = 2;
  private static final int FILE_VERSION = 3;
  private static final int SUMMARY = 5;
  private static final int SESSION_LOG = 7;
  // Fields of Summary, Summary.Value, SummaryMetadata, PluginData, TensorProto, SessionLog.
  private static final int VALUE = 1;
  private static final int TAG = 1;
  private static final int SIMPLE_VALUE = 2;
  private static final int TENSOR = 8;
  private static final int METADATA = 9;
  private static final int PLUGIN_DATA = 1;
  private static final int PLUGIN_NAME = 1;
  private static final int DATA_CLASS = 4;
  private static final int DATA_CLASS_TENSOR = 2;
  private static final int DTYPE = 1;
  private static final int DT_STRING = 7;
  private static final int TENSOR_SHAPE = 2;
  private static final int STRING_VALUE = 8;
  private static final int STATUS = 1;
  private static final int STATUS_START = 1;

  private final Path file;
  private final FileChannel channel;

  private TensorBoardWriter(Path file, FileChannel channel) {
    this.file = file;
    this.channel = channel;
  }

  /**
   * Begins a new event file in {@code directory}, which is created when absent. Its name is
   * TensorBoard's convention with {@code lethe} where a host's name would stand, and sorts behind
   * every event file that is there, also when the clock was set back.
   *
   * @param wallTime of the opening
   * @throws EnvironmentException if it cannot be written
   */
  public static TensorBoardWriter open(Path directory, double wallTime) {
    try {
      Files.createDirectories(directory);
      long seconds = Math.max((long) wallTime, newest(directory) + 1);
      Path file =
          directory.resolve(
              String.format(
                  Locale.ROOT,
                  "events.out.tfevents.%010d.lethe.%d.0",
                  seconds,
                  ProcessHandle.current().pid()));
      TensorBoardWriter writer =
          new TensorBoardWriter(
              file,
              FileChannel.open(file, StandardOpenOption.CREATE_NEW, StandardOpenOption.WRITE));
      writer.write(new Proto().fixed64(WALL_TIME, wallTime).text(FILE_VERSION, FORMAT));
      return writer;
    } catch (IOException e) {
      throw failure(directory, e);
    }
  }

  private static long newest(Path directory) throws IOException {
    try (Stream<Path> files = Files.list(directory)) {
      return files
          .map(file -> NAME.matcher(file.getFileName().toString()))
          .filter(Matcher::matches)
          .mapToLong(matcher -> Long.parseLong(matcher.group(1)))
          .max()
          .orElse(-1);
    }
  }

  /** The file being written. */
  public Path file() {
    return file;
  }

  /**
   * Writes one point of each curve.
   *
   * @param values by tag; stored as fp32, NaN and infinities included
   * @throws EnvironmentException if it cannot be written
   */
  public void scalars(long step, double wallTime, Map<String, Double> values) {
    Proto summary = new Proto();
    values.forEach(
        (tag, value) ->
            summary.message(
                VALUE,
                new Proto().text(TAG, tag).fixed32(SIMPLE_VALUE, (float) value.doubleValue())));
    write(event(step, wallTime).message(SUMMARY, summary));
  }

  /**
   * Writes a text.
   *
   * @param markdown as TensorBoard renders it
   * @throws EnvironmentException if it cannot be written
   */
  public void text(String tag, long step, double wallTime, String markdown) {
    Proto tensor =
        new Proto()
            .varint(DTYPE, DT_STRING)
            .message(TENSOR_SHAPE, new Proto())
            .text(STRING_VALUE, markdown);
    Proto metadata =
        new Proto()
            .message(PLUGIN_DATA, new Proto().text(PLUGIN_NAME, "text"))
            .varint(DATA_CLASS, DATA_CLASS_TENSOR);
    Proto value = new Proto().text(TAG, tag).message(METADATA, metadata).message(TENSOR, tensor);
    write(event(step, wallTime).message(SUMMARY, new Proto().message(VALUE, value)));
  }

  /**
   * Says that a run goes on from an earlier state: readers drop what the files before this one say
   * of {@code step} and later.
   *
   * @throws EnvironmentException if it cannot be written
   */
  public void restart(long step, double wallTime) {
    write(event(step, wallTime).message(SESSION_LOG, new Proto().varint(STATUS, STATUS_START)));
  }

  private static Proto event(long step, double wallTime) {
    return new Proto().fixed64(WALL_TIME, wallTime).varint(STEP, step);
  }

  private void write(Proto event) {
    byte[] data = event.toByteArray();
    ByteBuffer framed =
        ByteBuffer.allocate(data.length + FRAME_BYTES).order(ByteOrder.LITTLE_ENDIAN);
    framed.putLong(data.length);
    framed.putInt(maskedCrc(framed.array(), 0, Long.BYTES));
    framed.put(data);
    framed.putInt(maskedCrc(data, 0, data.length));
    framed.flip();
    try {
      while (framed.hasRemaining()) {
        channel.write(framed);
      }
    } catch (IOException e) {
      throw failure(file, e);
    }
  }

  /** CRC-32C, rotated and shifted, since a CRC of data that holds its CRC is weak. */
  static int maskedCrc(byte[] data, int offset, int length) {
    CRC32C crc = new CRC32C();
    crc.update(data, offset, length);
    return Integer.rotateRight((int) crc.getValue(), 15) + CRC_MASK;
  }

  private static EnvironmentException failure(Path path, IOException e) {
    return new EnvironmentException(
        path
            + ": TensorBoard's events cannot be written ("
            + e
            + "); check permissions and free space",
        e);
  }

  @Override
  public void close() {
    try {
      channel.close();
    } catch (IOException e) {
      throw failure(file, e);
    }
  }
}
