package org.lethe.internal.cli;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.List;
import java.util.Map;
import java.util.SplittableRandom;
import java.util.TreeMap;
import java.util.concurrent.TimeUnit;
import org.junit.jupiter.api.BeforeAll;
import org.junit.jupiter.api.Tag;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.lethe.Hashes;

/**
 * Processes that are killed at random moments and resumed. {@code -Dlethe.kills=N} says how often
 * (the profile {@code soak}: 100).
 */
@Tag("soak")
class KillTest {
  private static final int KILLS = Integer.getInteger("lethe.kills", 5);
  private static final int STEPS = 40;

  @TempDir static Path dir;
  private static TinyRuns runs;

  @BeforeAll
  static void tune() {
    runs = new TinyRuns(dir).fineTuned();
  }

  private static String[] unlearn(String output) {
    return runs.unlearn(
        output,
        "NPO+KL",
        "train.steps=" + STEPS,
        "evaluate.rows=1",
        "evaluate.every=20 steps",
        "checkpoint.every=5 steps");
  }

  private static Process start(Path log, String... arguments) throws IOException {
    return TinyRuns.start(log, List.of("-XX:TieredStopAtLevel=1", "-Xmx256m"), arguments);
  }

  private static Map<String, String> result(Path run) {
    Map<String, String> files = new TreeMap<>(TinyRuns.contents(run));
    files.keySet().removeIf(n -> !n.startsWith("adapter") && !n.startsWith("metrics"));
    // The newest checkpoint: earlier ones may have been passed over by a kill while they were kept.
    files.putAll(TinyRuns.contents(run.resolve("checkpoints/step-0000000" + STEPS)));
    files.remove("manifest.json");
    files.replaceAll((name, bytes) -> Hashes.sha256(bytes));
    return files;
  }

  @Test
  void aKilledRunGoesOnToTheSameBits() throws IOException, InterruptedException {
    Path log = dir.resolve("log");
    long began = System.nanoTime();
    Process whole = start(log, unlearn("whole"));
    assertTrue(whole.waitFor(5, TimeUnit.MINUTES));
    assertEquals(0, whole.exitValue(), Files.readString(log));
    long wholeNanos = System.nanoTime() - began;
    Map<String, String> expected = result(runs.resolve("whole"));
    assertEquals(5, expected.size(), expected.keySet().toString());
    SplittableRandom random = new SplittableRandom(1);
    int kills = 0;
    for (int round = 0; kills < KILLS; round++) {
      String name = "killed-" + round;
      boolean begun = false;
      boolean ended = false;
      while (!ended) {
        Process process =
            begun ? start(log, "resume", runs.resolve(name).toString()) : start(log, unlearn(name));
        boolean finished = process.waitFor(random.nextLong(wholeNanos), TimeUnit.NANOSECONDS);
        process.destroyForcibly().waitFor();
        ended = finished && process.exitValue() == 0;
        kills += finished ? 0 : 1;
        assertTrue(!finished || ended, name + ":\n" + Files.readString(log));
        // Killed before it wrote what it is: then it is begun again.
        begun = Files.exists(runs.resolve(name).resolve("run.json"));
        if (!begun) {
          TinyRuns.delete(runs.resolve(name));
        }
      }
      assertEquals(expected, result(runs.resolve(name)), name + ", after " + kills + " kills");
    }
  }

  /** SIGTERM: a full checkpoint, and the exit code of one that was terminated. */
  @Test
  void aTerminatedRunWritesACheckpointFirst() throws IOException, InterruptedException {
    Path log = dir.resolve("term-log");
    String[] arguments = runs.unlearn("term", "ME+GD", "train.steps=100000", "evaluate.rows=1");
    Process process = start(log, arguments);
    Path metrics = runs.resolve("term/metrics.jsonl");
    while (process.isAlive() && (!Files.exists(metrics) || Files.size(metrics) < 2000)) {
      process.waitFor(20, TimeUnit.MILLISECONDS);
    }
    process.destroy();
    assertTrue(process.waitFor(1, TimeUnit.MINUTES));
    String said = Files.readString(log);
    assertEquals(143, process.exitValue(), said);
    assertTrue(said.contains("stopping after this step, with a checkpoint"), said);
    assertTrue(
        said.contains("by a signal; a checkpoint is written, go on with: lethe resume"), said);
    long steps = Files.readAllLines(metrics).size();
    Path checkpoint =
        runs.resolve(String.format("term/checkpoints/step-%09d/manifest.json", steps));
    assertTrue(Files.isRegularFile(checkpoint), checkpoint + "\n" + said);
  }
}
