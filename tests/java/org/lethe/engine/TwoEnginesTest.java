package org.lethe.engine;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertNotEquals;

import java.io.IOException;
import java.io.UncheckedIOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.CyclicBarrier;
import java.util.concurrent.TimeUnit;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.Timeout;
import org.junit.jupiter.api.io.TempDir;
import org.lethe.Hashes;
import org.lethe.method.MethodConfig;
import org.lethe.method.Methods;
import org.lethe.train.Schedule;
import org.lethe.train.StepReport;
import org.lethe.train.TrainSettings;

/**
 * Engines of one JVM share nothing: two that train at the same time give the bits of each alone.
 */
class TwoEnginesTest {
  private static final int STEPS = 12;

  /** A training of one of the engines: another model, another number of threads, another method. */
  private record Job(TinyModel tiny, int threads, String method) {
    /** The steps' reports, and a hash of the adapter. */
    record Result(List<StepReport> steps, String adapter) {}

    Result run(Path target, CyclicBarrier together) {
      List<StepReport> steps = new ArrayList<>();
      try (Engine engine = Engine.cpu(threads);
          LanguageModel model = engine.load(tiny.directory());
          Training training =
              model
                  .unlearn(Methods.create(MethodConfig.of(method)), tiny.forget(), tiny.retain())
                  .settings(TrainSettings.of(STEPS, 5e-3, Schedule.LINEAR, 2))
                  .onStep(steps::add)
                  .build()) {
        while (training.done() < STEPS) {
          if (together != null) {
            // Every step of the one runs while the other is in the same one.
            together.await(30, TimeUnit.SECONDS);
          }
          training.next();
        }
        model.saveAdapter(target);
        return new Result(
            steps, Hashes.sha256(Files.readAllBytes(target.resolve("adapter_model.safetensors"))));
      } catch (IOException e) {
        throw new UncheckedIOException(e);
      } catch (InterruptedException
          | java.util.concurrent.BrokenBarrierException
          | java.util.concurrent.TimeoutException e) {
        throw new AssertionError(e);
      }
    }
  }

  @Test
  @Timeout(value = 60, unit = TimeUnit.SECONDS, threadMode = Timeout.ThreadMode.SEPARATE_THREAD)
  void twoThatTrainAtOnceGiveTheBitsOfEachAlone(@TempDir Path dir) {
    Job one = new Job(TinyModel.make(dir.resolve("m1"), 1), 1, "NPO+GD");
    Job two = new Job(TinyModel.make(dir.resolve("m2"), 2), 2, "ME+KL");
    Job.Result oneAlone = one.run(dir.resolve("one-alone"), null);
    Job.Result twoAlone = two.run(dir.resolve("two-alone"), null);
    assertNotEquals(oneAlone.adapter(), twoAlone.adapter());
    CyclicBarrier together = new CyclicBarrier(2);
    CompletableFuture<Job.Result> oneTogether =
        CompletableFuture.supplyAsync(
            () -> one.run(dir.resolve("one"), together), work -> new Thread(work).start());
    Job.Result twoTogether = two.run(dir.resolve("two"), together);
    assertEquals(oneAlone, oneTogether.join());
    assertEquals(twoAlone, twoTogether);
  }
}
