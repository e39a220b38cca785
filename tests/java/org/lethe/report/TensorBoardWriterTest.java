package org.lethe.report;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.io.IOException;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Random;
import java.util.stream.IntStream;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.lethe.EnvironmentException;
import org.lethe.model.Goldens;

class TensorBoardWriterTest {
  /** What tests/oracle/check_tensorboard.py reads by TensorBoard itself. */
  private static final Path GOLDEN = Goldens.path("tensorboard");

  @TempDir Path dir;

  @Test
  void theMaskedCrcIsTensorBoards() {
    // From tensorboard's own tests.
    byte[] data = "\u001a\u0011CRC test, one two".getBytes(StandardCharsets.ISO_8859_1);
    assertEquals(0x5794d08a, TensorBoardWriter.maskedCrc(data, 0, data.length));
    assertEquals(0xf2d95a88, EventReader.crc32c(data));
  }

  @Test
  void whatIsWrittenIsReadBack() throws IOException {
    Map<String, Double> hard = new LinkedHashMap<>();
    hard.put("zero", 0.0);
    hard.put("nan", Double.NaN);
    hard.put("up", Double.POSITIVE_INFINITY);
    hard.put("down", Double.NEGATIVE_INFINITY);
    hard.put("beyond fp32", 1e300);
    hard.put("größe/λ", -1.5);
    Path file;
    try (TensorBoardWriter writer = TensorBoardWriter.open(dir.resolve("a/b"), 1234.5)) {
      file = writer.file();
      writer.scalars(0, 1235, hard);
      writer.scalars(5_000_000_000L, 1236.25, Map.of("loss", 2.5));
      writer.text("config", 3, 1237, "seed: 7\nmodel: modèle\n");
      writer.restart(300, 1238);
      // A run that is watched or killed: nothing waits for the close.
      assertEquals(5, EventReader.read(file).size());
    }
    List<EventReader.Event> events = EventReader.read(file);
    assertEquals("brain.Event:2", events.get(0).version());
    assertEquals(1234.5, events.get(0).wallTime());
    Map<String, Float> read = events.get(1).scalars();
    assertEquals(List.copyOf(hard.keySet()), List.copyOf(read.keySet()));
    hard.forEach((tag, value) -> assertEquals((float) value.doubleValue(), read.get(tag), tag));
    assertEquals(0, events.get(1).step());
    assertEquals(5_000_000_000L, events.get(2).step());
    assertEquals(1236.25, events.get(2).wallTime());
    assertEquals(Map.of("loss", 2.5f), events.get(2).scalars());
    assertEquals(Map.of("config", "seed: 7\nmodel: modèle\n"), events.get(3).texts());
    assertEquals(1, events.get(4).session());
    assertEquals(300, events.get(4).step());
  }

  @Test
  void longTextsAndManyTagsKeepTheirLengths() throws IOException {
    Random random = new Random(11);
    Map<String, Double> many = new LinkedHashMap<>();
    IntStream.range(0, 500).forEach(i -> many.put("tag " + i, random.nextGaussian()));
    String text = "é".repeat(70_000);
    Path file;
    try (TensorBoardWriter writer = TensorBoardWriter.open(dir, 1)) {
      file = writer.file();
      writer.scalars(127, 2, many);
      writer.scalars(128, 2, many);
      writer.text("long", 16_384, 3, text);
    }
    List<EventReader.Event> events = EventReader.read(file);
    assertEquals(List.of(0L, 127L, 128L, 16_384L), events.stream().map(e -> e.step()).toList());
    assertEquals(500, events.get(1).scalars().size());
    assertEquals((float) (double) many.get("tag 499"), events.get(2).scalars().get("tag 499"));
    assertEquals(text, events.get(3).texts().get("long"));
  }

  @Test
  void aNewFileSortsBehindTheOldOnesAndNamesNoHost() throws IOException {
    String first = name(2_000_000_000.9);
    assertTrue(first.matches("events\\.out\\.tfevents\\.2000000000\\.lethe\\.\\d+\\.0"), first);
    String sameSecond = name(2_000_000_000.95);
    String clockSetBack = name(5);
    assertTrue(first.compareTo(sameSecond) < 0, sameSecond);
    assertTrue(sameSecond.compareTo(clockSetBack) < 0, clockSetBack);
  }

  private String name(double wallTime) {
    try (TensorBoardWriter writer = TensorBoardWriter.open(dir, wallTime)) {
      return writer.file().getFileName().toString();
    }
  }

  @Test
  void aPlaceThatIsNoDirectoryIsRefused() throws IOException {
    Path file = Files.writeString(dir.resolve("file"), "");
    EnvironmentException e =
        assertThrows(EnvironmentException.class, () -> TensorBoardWriter.open(file, 1));
    assertTrue(e.getMessage().startsWith(file.toString()), e.getMessage());
  }

  /** The bytes that TensorBoard was seen to read right are the bytes that are written. */
  @Test
  void theGoldenIsWhatIsWritten() throws IOException {
    try (TensorBoardWriter writer = TensorBoardWriter.open(dir, 1_700_000_000.0)) {
      writer.text("config", 0, 1_700_000_000.0, "    seed: 7");
      for (int step = 0; step < 4; step++) {
        writer.scalars(step, 1_700_000_000.25 + step, values(step));
      }
      assertGolden("first", writer.file());
    }
    try (TensorBoardWriter writer = TensorBoardWriter.open(dir, 1_700_000_010.0)) {
      writer.restart(2, 1_700_000_010.0);
      for (int step = 2; step < 5; step++) {
        writer.scalars(step, 1_700_000_010.25 + step, values(step + 100));
      }
      assertGolden("resumed", writer.file());
    }
  }

  private static Map<String, Double> values(int n) {
    Map<String, Double> values = new LinkedHashMap<>();
    values.put("train/loss", n / 8.0);
    values.put("train/parts/ME", n == 1 ? Double.NaN : 0);
    return values;
  }

  private static void assertGolden(String name, Path written) throws IOException {
    assertArrayEquals(
        Files.readAllBytes(GOLDEN.resolve(name + ".tfevents")), Files.readAllBytes(written), name);
  }
}
