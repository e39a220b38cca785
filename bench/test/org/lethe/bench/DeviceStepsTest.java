package org.lethe.bench;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertTrue;

import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.json.JsonMapper;
import java.io.IOException;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.lethe.method.Method;
import org.lethe.method.MethodConfig;
import org.lethe.method.Methods;
import org.lethe.model.BaseStorage;
import org.lethe.train.Graphs;
import org.lethe.train.StepSequence;
import picocli.CommandLine;

class DeviceStepsTest {
  @TempDir Path directory;

  private static Method mixed() {
    return Methods.create(MethodConfig.of("ME+GD"));
  }

  /** Every model is made, and what is asked of speed is judged. */
  @Test
  void everyFigureIsTakenAndJudged() throws IOException {
    Path prefix = directory.resolve("tiny");
    int code =
        new CommandLine(new DeviceSteps())
            .execute("--small", "--device", "cpu", "--prefix", prefix.toString());
    JsonNode document =
        JsonMapper.builder().build().readTree(directory.resolve("tiny.json").toFile());
    assertEquals(0, code, document.toString());
    assertEquals(11, document.path("results").size());
    assertTrue(document.path("product_tflop_per_s").asDouble() > 0);
    List<String> targets = new ArrayList<>();
    document.path("targets").forEach(t -> targets.add(t.path("target").asText()));
    assertEquals(5, targets.size(), targets.toString());
    assertTrue(targets.get(1).contains("forget10"), targets.toString());
    String page = Files.readString(directory.resolve("tiny.md"), StandardCharsets.UTF_8);
    assertTrue(page.contains("| asked for | wanted |"), page);
    assertFalse(Files.exists(directory.resolve("tiny.json.part")));
  }

  /** A model that cannot be made is told; the others are made all the same. */
  @Test
  void whatFailsKeepsNothingElse() throws IOException {
    Path prefix = directory.resolve("none");
    DeviceSteps steps = new DeviceSteps();
    int code =
        new CommandLine(steps)
            .execute(
                "--small", "--device", "cpu", "--graphs", "ALWAYS", "--prefix", prefix.toString());
    assertEquals(1, code);
    JsonNode document =
        JsonMapper.builder().build().readTree(directory.resolve("none.json").toFile());
    assertEquals(9, document.path("results").size());
    for (JsonNode result : document.path("results")) {
      assertEquals("failed", result.path("status").asText());
      assertTrue(result.path("why").asText().contains("train.graphs=always"), result.toString());
    }
  }

  /** Every model with a limit of memory has a plan, which keeps to it. */
  @Test
  void plansKeepToTheLimits() {
    assertTrue(planned("llama-2-7b", "7B", BaseStorage.NF4_DOUBLE, 6.5e9) > 3.5e9);
    assertTrue(planned("llama-3-8b", "8B", BaseStorage.NF4_DOUBLE, 8e9) > 5e9);
    assertTrue(planned("llama-3.2-1b", "1B", BaseStorage.PLAIN, 4.5e9) > 2.4e9);
  }

  private static long planned(String shape, String model, BaseStorage base, double limit) {
    TimedSteps.Work work =
        new TimedSteps.Work(
            DeviceSteps.model(model), base, mixed(), 2, 256, (long) limit, Graphs.NEVER);
    // No such device is here: the plan is for one elsewhere.
    long bytes = DevicePlan.bytes(shape, "cuda:0", work);
    assertTrue(bytes <= limit, shape + " takes " + bytes);
    return bytes;
  }

  @Test
  void rowsLikeTofusAreSomeHundredTokens() {
    List<StepSequence> rows = Rows.likeTofu(mixed(), 32000, 400);
    assertEquals(800, rows.size());
    double mean = rows.stream().mapToInt(s -> s.tokens().ids().length).average().orElseThrow();
    // exp(0.35^2 / 2) times the median, whose mean over 800 rows has a deviation of 1.3.
    assertEquals(106.3, mean, 5);
  }
}
