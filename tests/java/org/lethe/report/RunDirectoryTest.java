package org.lethe.report;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import com.fasterxml.jackson.databind.ObjectMapper;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.StandardOpenOption;
import java.security.MessageDigest;
import java.util.HexFormat;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.stream.Stream;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.function.Executable;
import org.junit.jupiter.api.io.TempDir;
import org.lethe.UserException;

class RunDirectoryTest {
  private static final Map<String, String> FACTS = RunDirectory.environment("1.2", "cpu: avx2");

  @TempDir Path dir;

  @Test
  void linesAreThereWhenAppendReturns() throws IOException {
    Path path = dir.resolve("runs/1");
    try (RunDirectory run = RunDirectory.create(path, "seed: 7\n", FACTS)) {
      run.append(Map.of("step", 1));
      assertEquals("{\"step\":1}\n", Files.readString(path.resolve("metrics.jsonl")));
      run.append(Map.of("loss", Double.NaN));
      assertEquals(
          List.of("{\"step\":1}", "{\"loss\":\"NaN\"}"),
          Files.readAllLines(path.resolve("metrics.jsonl")));
      assertThrows(UserException.class, () -> run.append(Map.of("x", new Object())));
    }
    assertEquals("seed: 7\n", Files.readString(path.resolve("config.yaml")));
    assertThrows(UserException.class, () -> RunDirectory.create(path, "", FACTS));
  }

  @Test
  void environmentNamesNoHostPathOrVariable() throws IOException {
    Path path = dir.resolve("run");
    RunDirectory.create(path, "", FACTS).close();
    String json = Files.readString(path.resolve("environment.json"));
    Map<?, ?> facts = new ObjectMapper().readValue(json, Map.class);
    assertEquals(FACTS, facts);
    assertEquals("1.2", facts.get("lethe"));
    assertEquals("cpu: avx2", facts.get("backend"));
    assertEquals(Set.of("lethe", "backend", "java", "os", "arch", "processors"), facts.keySet());
    assertFalse(json.contains(System.getProperty("user.dir")));
    assertFalse(json.contains(System.getProperty("java.home")));
  }

  @Test
  void reopeningCutsAnUnfinishedLine() throws IOException {
    Path path = dir.resolve("run");
    RunDirectory run = RunDirectory.create(path, "", FACTS);
    run.append(Map.of("step", 1));
    run.close();
    run.close();
    Files.writeString(path.resolve("metrics.jsonl"), "{\"st", StandardOpenOption.APPEND);
    try (RunDirectory again = RunDirectory.reopen(path)) {
      again.append(Map.of("step", 2));
    }
    assertEquals(
        List.of("{\"step\":1}", "{\"step\":2}"), Files.readAllLines(path.resolve("metrics.jsonl")));
    assertThrows(UserException.class, () -> RunDirectory.reopen(dir));
  }

  @Test
  void writesBothReportsAndReplacesThem() throws IOException {
    Path path = dir.resolve("run");
    try (RunDirectory run = RunDirectory.create(path, "", FACTS)) {
      for (String title : List.of("first", "second")) {
        run.writeReport(new ReportData(title, List.of(), List.of(), List.of(), List.of()));
        assertEquals("# " + title + "\n", Files.readString(path.resolve("report.md")));
        assertTrue(Files.readString(path.resolve("report.html")).contains(title));
      }
    }
    try (Stream<Path> files = Files.list(path)) {
      assertEquals(
          List.of(
              "config.yaml",
              "environment.json",
              "metrics.jsonl",
              "report.html",
              "report.md",
              "timings.jsonl"),
          files.map(file -> file.getFileName().toString()).sorted().toList());
    }
  }

  private static Map<String, Object> step(int step, double loss) {
    Map<String, Object> line = new LinkedHashMap<>();
    line.put("step", step);
    line.put("loss", loss);
    line.put("parts", Map.of("GD", loss / 2));
    line.put("gradient_norm", 1.5);
    line.put("learning_rate", 1e-3);
    line.put("tokens", 64);
    line.put("applied", true);
    return line;
  }

  private static List<Path> eventFiles(Path run) throws IOException {
    if (!Files.exists(run.resolve("tensorboard"))) {
      return List.of();
    }
    try (Stream<Path> files = Files.list(run.resolve("tensorboard"))) {
      return files.sorted().toList();
    }
  }

  @Test
  void stepsEvaluationsAndTimingsGoToTheirFilesAndToTensorBoard() throws IOException {
    Path path = dir.resolve("run");
    try (RunDirectory run = RunDirectory.create(path, "seed: 7\n", FACTS)) {
      assertEquals(List.of(), eventFiles(path));
      run.append(Map.of("note", 1));
      run.append(step(0, Double.NaN));
      run.timing(new Timing(0, 0.5, 128, Timing.UNKNOWN, 1 << 20, 3, 5));
      run.evaluation(1, Map.of("forget", Map.of("probability", 0.25)), Double.NaN);
    }
    assertEquals(
        List.of(
            "{\"note\":1}",
            "{\"step\":0,\"loss\":\"NaN\",\"parts\":{\"GD\":\"NaN\"},\"gradient_norm\":1.5,"
                + "\"learning_rate\":0.001,\"tokens\":64,\"applied\":true}",
            "{\"step\":1,\"evaluation\":{\"forget\":{\"probability\":0.25}},\"utility\":\"NaN\"}"),
        Files.readAllLines(path.resolve("metrics.jsonl")));
    assertEquals(
        List.of(
            "{\"step\":0,\"seconds\":0.5,\"tokens_per_second\":128.0,\"heap_bytes\":1048576,"
                + "\"native_bytes\":3,\"pointer_bytes\":5}"),
        Files.readAllLines(path.resolve("timings.jsonl")));
    List<Path> files = eventFiles(path);
    assertEquals(1, files.size());
    List<EventReader.Event> events = EventReader.read(files.get(0));
    assertEquals(Map.of("config", "    seed: 7\n    "), events.get(1).texts());
    Map<String, Float> step = events.get(2).scalars();
    assertEquals(
        List.of(
            "train/loss",
            "train/parts/GD",
            "train/gradient_norm",
            "train/learning_rate",
            "train/tokens"),
        List.copyOf(step.keySet()));
    assertEquals(Float.NaN, step.get("train/loss"));
    assertEquals(0.001f, step.get("train/learning_rate"));
    assertEquals(128f, events.get(3).scalars().get("machine/tokens_per_second"));
    assertEquals(0.25f, events.get(4).scalars().get("evaluation/forget/probability"));
    assertEquals(Float.NaN, events.get(4).scalars().get("evaluation/utility"));
    assertEquals(List.of(0L, 0L, 0L, 0L, 1L), events.stream().map(e -> e.step()).toList());
  }

  @Test
  void tensorBoardCanBeSwitchedOff() throws IOException {
    Path path = dir.resolve("run");
    try (RunDirectory run = RunDirectory.create(path, "", FACTS, false)) {
      run.append(step(0, 1));
      run.resumed(1, "why");
    }
    try (RunDirectory run = RunDirectory.reopen(path, 0, null, false)) {
      run.append(step(0, 1));
    }
    assertFalse(Files.exists(path.resolve("tensorboard")));
  }

  @Test
  void goingOnFromACheckpointGivesTheSameMetricsAsNeverStopping() throws Exception {
    Path whole = dir.resolve("whole");
    try (RunDirectory run = RunDirectory.create(whole, "", FACTS)) {
      for (int i = 0; i < 5; i++) {
        run.append(step(i, 1.0 / (i + 3)));
      }
    }
    Path path = dir.resolve("stopped");
    long bytes;
    String sha256;
    try (RunDirectory run = RunDirectory.create(path, "", FACTS)) {
      run.append(step(0, 1.0 / 3));
      run.append(step(1, 1.0 / 4));
      run.force();
      bytes = run.metricsBytes();
      sha256 = run.metricsSha256();
      assertEquals(Files.size(path.resolve("metrics.jsonl")), bytes);
      assertEquals(sha256(Files.readAllBytes(path.resolve("metrics.jsonl"))), sha256);
      run.append(step(2, 99));
    }
    Files.writeString(path.resolve("metrics.jsonl"), "{\"st", StandardOpenOption.APPEND);
    Files.writeString(path.resolve("timings.jsonl"), "{\"step\":2,", StandardOpenOption.APPEND);
    try (RunDirectory run = RunDirectory.reopen(path, bytes, sha256, true)) {
      assertEquals(bytes, run.metricsBytes());
      assertEquals(sha256, run.metricsSha256());
      run.resumed(2, "after signal TERM");
      for (int i = 2; i < 5; i++) {
        run.append(step(i, 1.0 / (i + 3)));
      }
      assertEquals(sha256(Files.readAllBytes(whole.resolve("metrics.jsonl"))), run.metricsSha256());
    }
    assertEquals(
        Files.readString(whole.resolve("metrics.jsonl")),
        Files.readString(path.resolve("metrics.jsonl")));
    String timings = Files.readString(path.resolve("timings.jsonl"));
    assertTrue(timings.startsWith("{\"resumed_at\":2,\"time\":\"20"), timings);
    List<Path> files = eventFiles(path);
    assertEquals(2, files.size());
    List<EventReader.Event> again = EventReader.read(files.get(1));
    assertEquals(1, again.get(1).session());
    assertEquals(3, again.get(1).step());
    assertEquals(2, again.get(2).step());
  }

  private static String sha256(byte[] bytes) throws Exception {
    return HexFormat.of().formatHex(MessageDigest.getInstance("SHA-256").digest(bytes));
  }

  @Test
  void metricsOfAnotherRunAreRefusedAndStayWhole() throws IOException {
    Path path = dir.resolve("run");
    try (RunDirectory run = RunDirectory.create(path, "", FACTS)) {
      run.append(step(0, 1));
      run.append(step(1, 1));
    }
    Path metrics = path.resolve("metrics.jsonl");
    String before = Files.readString(metrics);
    long line = before.length() / 2;
    for (String message :
        List.of(
            refusal(() -> RunDirectory.reopen(path, before.length() + 1)),
            refusal(() -> RunDirectory.reopen(path, -1)),
            refusal(() -> RunDirectory.reopen(path, line - 1)),
            refusal(() -> RunDirectory.reopen(path, line, "00", true)))) {
      assertTrue(message.startsWith(metrics + ": "), message);
      assertEquals(before, Files.readString(metrics), message);
    }
    RunDirectory.reopen(path, line).close();
    assertEquals(before.substring(0, (int) line), Files.readString(metrics));
    RunDirectory.reopen(path, 0).close();
    assertEquals("", Files.readString(metrics));
  }

  private static String refusal(Executable reopen) {
    return assertThrows(UserException.class, reopen).getMessage();
  }

  @Test
  void largeMetricsKeepTheirDigest() throws Exception {
    Path path = dir.resolve("run");
    String text = "x".repeat(1000);
    try (RunDirectory run = RunDirectory.create(path, "", FACTS, false)) {
      for (int i = 0; i < 200; i++) {
        run.append(Map.of("text", text));
      }
    }
    try (RunDirectory run = RunDirectory.reopen(path)) {
      assertEquals(200L * (1000 + "{\"text\":\"\"}\n".length()), run.metricsBytes());
      assertEquals(sha256(Files.readAllBytes(path.resolve("metrics.jsonl"))), run.metricsSha256());
    }
  }

  @Test
  void memoryIsReadFromTheSystem() {
    assertEquals(
        12_345L * 1024,
        Timing.residentBytes(List.of("Name:\tjava", "VmRSS:\t   12345 kB", "VmHWM:\t 99999 kB")));
    assertEquals(Timing.UNKNOWN, Timing.residentBytes(List.of("Name:\tjava")));
    Timing now = Timing.now(3, 1.5, 100, 7, 9);
    assertEquals(7, now.nativeBytes());
    assertEquals(9, now.pointerBytes());
    assertTrue(now.heapBytes() > 0);
    // A process holds at least its own heap's live objects, and this one is smaller than 1 TiB.
    assertTrue(
        now.residentBytes() == Timing.UNKNOWN
            || (now.residentBytes() > 1 << 20 && now.residentBytes() < 1L << 40),
        now.toString());
  }
}
