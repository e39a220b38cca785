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
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.stream.Stream;
import org.junit.jupiter.api.Test;
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
          List.of("config.yaml", "environment.json", "metrics.jsonl", "report.html", "report.md"),
          files.map(file -> file.getFileName().toString()).sorted().toList());
    }
  }
}
