package org.lethe.internal.cli;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.List;
import java.util.concurrent.TimeUnit;
import org.junit.jupiter.api.Tag;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

/**
 * The second half of a long run takes no more memory than the first. {@code -Dlethe.soak.steps=N}
 * says how long (the profile {@code soak}: 20,000).
 *
 * <p>Lethe's own bytes and JavaCPP's are equal to the byte. What the process holds is judged after
 * 10,000 steps: until then the JIT and the allocator's pools fill, as
 * docs/performance/2026-11-21-memory-over-steps.md shows.
 */
@Tag("soak")
class SoakTest {
  private static final int STEPS = Integer.getInteger("lethe.soak.steps", 1000);
  private static final int WARM_STEPS = 10_000;
  // Seen over 20,000 steps after the first 10,000: 0.16 MB.
  private static final long SLACK_BYTES = 4L << 20;

  @TempDir Path dir;

  @Test
  void memoryStaysFlat() throws IOException, InterruptedException {
    TinyRuns runs = new TinyRuns(dir).fineTuned();
    Path log = dir.resolve("log");
    String[] arguments =
        runs.unlearn(
            "soak",
            "NPO+KL",
            "train.steps=" + STEPS,
            "train.batch_size=2",
            "evaluate.rows=1",
            "checkpoint.every=" + STEPS / 10 + " steps");
    // A small heap that is full early: what grows after that is a leak. As the launcher does,
    // JavaCPP is kept from counting the memory of others against the heap.
    Process process =
        TinyRuns.start(
            log,
            List.of(
                "-Xmx48m",
                "-Xms48m",
                "-XX:+UseSerialGC",
                "-XX:+AlwaysPreTouch",
                "-Dorg.bytedeco.javacpp.maxBytes=0",
                "-Dorg.bytedeco.javacpp.maxPhysicalBytes=0"),
            arguments);
    assertTrue(process.waitFor(9, TimeUnit.MINUTES));
    assertEquals(0, process.exitValue(), Files.readString(log));
    List<String> lines = Files.readAllLines(runs.resolve("soak/timings.jsonl"));
    assertEquals(STEPS, lines.size());
    JsonNode early = new ObjectMapper().readTree(lines.get(STEPS / 2));
    JsonNode late = new ObjectMapper().readTree(lines.get(STEPS - 1));
    assertEquals(early.get("native_bytes").asLong(), late.get("native_bytes").asLong());
    assertEquals(early.get("pointer_bytes").asLong(), late.get("pointer_bytes").asLong());
    assertTrue(late.get("pointer_bytes").asLong() > 0, lines.get(STEPS - 1));
    long grown = late.get("resident_bytes").asLong() - early.get("resident_bytes").asLong();
    if (STEPS >= 2 * WARM_STEPS) {
      assertTrue(
          grown <= SLACK_BYTES,
          "resident memory grew by " + grown + " bytes over " + STEPS / 2 + " steps");
    }
  }
}
