package org.lethe.bench.scaling;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.json.JsonMapper;
import java.io.IOException;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.stream.Stream;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.lethe.InternalFaultException;
import org.lethe.bench.plots.Plots;
import org.lethe.kernels.Backend;
import org.lethe.kernels.Dtype;
import org.lethe.kernels.Ops;
import picocli.CommandLine;

class ScalingTest {
  @TempDir Path directory;

  private JsonNode run(String... more) throws IOException {
    Path prefix = directory.resolve("tiny");
    String[] words =
        Stream.concat(
                Stream.of("--tiny", "--threads", "2", "--prefix", prefix.toString()),
                Stream.of(more))
            .toArray(String[]::new);
    assertEquals(0, new CommandLine(new Scaling()).execute(words));
    return JsonMapper.builder().build().readTree(directory.resolve("tiny.json").toFile());
  }

  /** A question about the script builds, measures and draws nothing. */
  @Test
  void helpIsNotARun() throws IOException, InterruptedException {
    Path script = Path.of(System.getProperty("lethe.root"), "bench/scaling/run");
    Process asked =
        new ProcessBuilder("bash", script.toString(), "--no-build", "--help")
            .redirectErrorStream(true)
            .start();
    String said = new String(asked.getInputStream().readAllBytes(), StandardCharsets.UTF_8);
    assertEquals(0, asked.waitFor(), said);
    assertTrue(said.contains("--curves") && said.contains("Exit status"), said);
    assertFalse(said.contains("set -euo"), said);
  }

  @Test
  void everyCurveIsCheckedMeasuredAndDrawn() throws IOException {
    JsonNode document = run();
    assertEquals(0, document.path("not_run").asInt());
    assertEquals(Curves.tiny().size(), document.path("curves").size());
    for (JsonNode curve : document.path("curves")) {
      for (JsonNode point : curve.path("points")) {
        assertTrue(point.path("ms_median").asDouble() > 0, curve.path("name").asText());
      }
    }
    assertTrue(Plots.of(directory.resolve("tiny.json")).containsKey("tiny-tokens.svg"));
  }

  /** A curve that fails takes none of those before it along. */
  @Test
  void whatWasMeasuredBeforeAFaultIsWritten() {
    List<Integer> written = new ArrayList<>();
    List<Curve> curves = new ArrayList<>(Curves.tiny().subList(0, 1));
    curves.add(new Curve(new Broken(), Sizes.Axis.TOKENS, curves.get(0).sizes()));
    try (Backend backend = Backend.open("cpu", 2)) {
      Measurement measurement =
          new Measurement(new Ops(backend, Dtype.F32), Long.MAX_VALUE, 60, line -> {});
      assertThrows(
          InternalFaultException.class, () -> measurement.run(curves, all -> written.add(all.size())));
    }
    assertEquals(List.of(1), written);
  }

  private static final class Broken implements Subject {
    @Override
    public String name() {
      return "broken";
    }

    @Override
    public String shape(Sizes s) {
      return "broken";
    }

    @Override
    public double flops(Sizes s) {
      return 1;
    }

    @Override
    public long bytes(Ops ops, Sizes s) {
      return 1;
    }

    @Override
    public Prepared prepare(Ops ops, Sizes s) {
      throw new InternalFaultException("a wrong result");
    }
  }

  @Test
  void whatMemoryOrTimeDoNotAllowIsListedWithTheReason() throws IOException {
    JsonNode document = run("--memory", "0.000001", "--curves", "head-tokens");
    assertEquals(3, document.path("not_run").asInt());
    JsonNode point = document.path("curves").get(0).path("points").get(0);
    assertTrue(point.path("not_run").asText().contains("GB may be used"), point.toString());
    assertFalse(point.has("ms_median"));
    String page = Files.readString(directory.resolve("tiny.md"), StandardCharsets.UTF_8);
    assertTrue(page.contains("NOT RUN: takes"), page);
    document = run("--seconds", "0", "--curves", "head-tokens");
    // The first point tells what others take.
    assertEquals(2, document.path("not_run").asInt());
    point = document.path("curves").get(0).path("points").get(1);
    assertTrue(point.path("not_run").asText().contains("are left for this curve"));
  }
}
