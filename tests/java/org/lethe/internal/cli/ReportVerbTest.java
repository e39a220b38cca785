package org.lethe.internal.cli;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.lethe.report.SyntheticRun;

class ReportVerbTest {
  @TempDir Path dir;

  private final TestConsole console = new TestConsole(false);

  private int run(Object... args) {
    String[] texts = new String[args.length + 1];
    texts[0] = "report";
    for (int i = 0; i < args.length; i++) {
      texts[i + 1] = args[i].toString();
    }
    return Main.run(console.console(), texts);
  }

  @Test
  void oneRunIsToldAndItsReportMadeAnew() throws IOException {
    Path run = SyntheticRun.unlearning(dir.resolve("forgot"));
    Files.writeString(run.resolve("report.html"), "old");
    assertEquals(0, run(run), console.err());
    String out = console.out();
    assertTrue(out.startsWith("Unlearning by ME+GD\nWhat was to be forgotten: "), out);
    assertTrue(
        out.contains("forget           probability     0.9900  0.0400  -0.9500  lower\n"), out);
    assertTrue(out.contains("\n- 1 of 60 updates left the parameters"), out);
    assertTrue(out.endsWith("\nReport: " + run.resolve("report.html") + "\n"), out);
    assertTrue(Files.readString(run.resolve("report.html")).contains("<h1>Unlearning by ME+GD"));
    assertTrue(Files.readString(run.resolve("report.md")).startsWith("# Unlearning by ME+GD\n"));
  }

  @Test
  void runsOfADirectoryStandSideBySide() {
    SyntheticRun.unlearning(dir.resolve("runs/b"));
    SyntheticRun.unlearning(dir.resolve("runs/a"));
    SyntheticRun.unlearning(dir.resolve("c"));
    assertEquals(0, run(dir.resolve("runs"), dir.resolve("c")), console.err());
    String out = console.out();
    assertTrue(out.matches("(?s)run +method .*\nbefore .*\na .*\nb .*\nc .*"), out);
    assertTrue(out.contains("\nReport: " + dir.resolve("runs/a/report.html") + "\n"), out);
    assertTrue(Files.exists(dir.resolve("runs/b/report.md")));
  }

  @Test
  void scriptsGetJson() throws IOException {
    Path run = SyntheticRun.unlearning(dir.resolve("forgot"));
    Files.delete(run.resolve("evaluation-before.json"));
    assertEquals(0, run("--json", run), console.err());
    JsonNode told = new ObjectMapper().readTree(console.out()).path("runs").path(0);
    assertEquals(60, told.path("updates").asInt());
    assertEquals(1, told.path("skipped").asInt());
    assertEquals(1, told.path("resumes").asInt());
    assertTrue(told.path("before").isNull(), console.out());
    assertEquals(0.96, told.at("/after/sets/retain/probability").asDouble());
    assertEquals(0.94, told.at("/after/model_utility").asDouble());
    assertTrue(Files.exists(Path.of(told.path("report").asText())), console.out());
  }

  @Test
  void whatIsNoRunIsRefusedWithWhatToDo() throws IOException {
    Files.createDirectory(dir.resolve("empty"));
    for (String name : new String[] {"absent", "empty"}) {
      TestConsole here = new TestConsole(false);
      assertEquals(2, Main.run(here.console(), "report", dir.resolve(name).toString()));
      assertTrue(here.err().startsWith("lethe: " + dir.resolve(name) + ": "), here.err());
      assertTrue(here.err().contains("give the output directory of"), here.err());
      assertEquals("", here.out());
    }
    assertEquals(2, run());
    assertTrue(console.err().contains("RUN"), console.err());
  }
}
