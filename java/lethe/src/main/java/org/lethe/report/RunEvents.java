package org.lethe.report;

import java.nio.file.Path;
import java.time.Clock;
import java.util.LinkedHashMap;
import java.util.Map;

/**
 * What a run tells TensorBoard, or nothing. The event file begins with the first event, so that a
 * run without steps leaves none.
 */
final class RunEvents implements AutoCloseable {
  private static final String STEP = "step";
  private static final double MILLIS_PER_SECOND = 1000;

  private final Path directory;
  private final Clock clock;
  private final Map<String, String> texts = new LinkedHashMap<>();
  private TensorBoardWriter writer;

  private RunEvents(Path directory, Clock clock) {
    this.directory = directory;
    this.clock = clock;
  }

  static RunEvents under(Path directory, Clock clock) {
    return new RunEvents(directory, clock);
  }

  static RunEvents none() {
    return new RunEvents(null, null);
  }

  /** A text in YAML or the like, shown as it is; written with the first event. */
  void text(String tag, String text) {
    texts.put(tag, "    " + text.replace("\n", "\n    "));
  }

  /**
   * Every number of a line, those of maps in it too, under tags such as {@code train/parts/GD}.
   * Lines without a step are not for TensorBoard.
   */
  void scalars(String prefix, Map<String, ?> line) {
    if (directory == null || !(line.get(STEP) instanceof Number step)) {
      return;
    }
    Map<String, Double> values = new LinkedHashMap<>();
    flatten(prefix, line, values);
    values.remove(prefix + "/" + STEP);
    if (!values.isEmpty()) {
      writer().scalars(step.longValue(), now(), values);
    }
  }

  private static void flatten(String prefix, Map<?, ?> line, Map<String, Double> values) {
    line.forEach(
        (key, value) -> {
          String tag = prefix + "/" + key;
          if (value instanceof Number number) {
            values.put(tag, number.doubleValue());
          } else if (value instanceof Map<?, ?> map) {
            flatten(tag, map, values);
          }
        });
  }

  /**
   * The run goes on with {@code step}. Steps behind it are dropped and come again; it itself stays,
   * since an evaluation of this very state may be among its values and is not made again.
   */
  void restart(long step) {
    if (directory != null) {
      writer().restart(step + 1, now());
    }
  }

  private TensorBoardWriter writer() {
    if (writer == null) {
      writer = TensorBoardWriter.open(directory, now());
      texts.forEach((tag, text) -> writer.text(tag, 0, now(), text));
    }
    return writer;
  }

  private double now() {
    return clock.millis() / MILLIS_PER_SECOND;
  }

  @Override
  public void close() {
    if (writer != null) {
      writer.close();
    }
  }
}
