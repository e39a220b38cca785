package org.lethe.engine;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;
import static org.lethe.engine.TinyModel.adapter;

import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.Set;
import java.util.TreeSet;
import java.util.concurrent.CancellationException;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicBoolean;
import org.junit.jupiter.api.AfterAll;
import org.junit.jupiter.api.BeforeAll;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.Timeout;
import org.junit.jupiter.api.io.TempDir;
import org.lethe.data.Example;
import org.lethe.train.Every;
import org.lethe.train.StepReport;
import org.lethe.train.TrainingLoop;

/** A training among threads: who ends it, who waits for it, and who asks the model meanwhile. */
@Timeout(value = 60, unit = TimeUnit.SECONDS, threadMode = Timeout.ThreadMode.SEPARATE_THREAD)
class TrainingThreadsTest {
  @TempDir static Path shared;
  private static TinyModel tiny;
  private static Engine engine;

  @TempDir Path dir;

  @BeforeAll
  static void make() {
    tiny = TinyModel.make(shared, 1);
    engine = Engine.cpu(1);
  }

  @AfterAll
  static void close() {
    engine.close();
  }

  /** A listener that holds the engine in the first step until it is let go. */
  private record Gate(CountDownLatch begun, CountDownLatch go) implements TrainingListener {
    Gate() {
      this(new CountDownLatch(1), new CountDownLatch(1));
    }

    @Override
    public void step(StepReport report) {
      begun.countDown();
      try {
        go.await();
      } catch (InterruptedException e) {
        throw new AssertionError(e);
      }
    }
  }

  @Test
  void closingAModelOrItsEngineStopsTheTrainingWithACheckpoint() throws InterruptedException {
    for (boolean wholeEngine : new boolean[] {false, true}) {
      Path checkpoints = dir.resolve("c" + wholeEngine);
      Engine own = Engine.cpu(1);
      LanguageModel model = own.load(tiny.directory());
      Gate gate = new Gate();
      Training training =
          tiny.unlearn(model, 50)
              .checkpoints(checkpoints, new Every(1, Every.Unit.EPOCH), 1)
              .listener(gate)
              .build();
      CompletableFuture<TrainingLoop.Outcome> running = training.runAsync();
      gate.begun().await();
      Thread closer = new Thread(wholeEngine ? own::close : model::close);
      closer.start();
      // It waits once its wish is in the queue.
      while (closer.getState() != Thread.State.WAITING) {
        Thread.onSpinWait();
      }
      gate.go().countDown();
      closer.join();
      TrainingLoop.Outcome outcome = running.join();
      assertEquals(TrainingLoop.End.REQUESTED, outcome.end());
      assertTrue(outcome.reason().contains("was closed"), outcome.reason());
      assertEquals(1, outcome.steps());
      assertTrue(Files.exists(checkpoints.resolve("step-000000001")));
      own.close();
      training.close();
    }
  }

  @Test
  void cancellingTheFutureCancelsTheTraining() throws InterruptedException {
    try (LanguageModel model = engine.load(tiny.directory())) {
      Gate gate = new Gate();
      try (Training training = tiny.unlearn(model, 50).listener(gate).build()) {
        CompletableFuture<TrainingLoop.Outcome> running = training.runAsync();
        gate.begun().await();
        running.cancel(true);
        gate.go().countDown();
        assertThrows(CancellationException.class, running::join);
        // Behind the step that was under way nothing follows.
        assertEquals(1, training.done());
      }
    }
  }

  @Test
  void interruptingTheWaiterCancelsTheTraining() throws InterruptedException {
    try (LanguageModel model = engine.load(tiny.directory())) {
      Gate gate = new Gate();
      CompletableFuture<Boolean> waiter = new CompletableFuture<>();
      try (Training training = tiny.unlearn(model, 50).listener(gate).build()) {
        Thread thread =
            new Thread(
                () -> {
                  try {
                    training.run();
                    waiter.complete(false);
                  } catch (CancellationException e) {
                    waiter.complete(Thread.currentThread().isInterrupted());
                  }
                });
        thread.start();
        gate.begun().await();
        thread.interrupt();
        assertTrue(waiter.join(), "cancelled, with the flag set");
        gate.go().countDown();
        assertEquals(1, training.done());
      }
      assertTrue(model.score("a", "b").nll() > 0);
    }
  }

  /** Eight threads ask while it trains: each answer is one of those between two steps. */
  @Test
  void threadsScoreWhileItTrains() throws Exception {
    int steps = 40;
    int threads = 8;
    String question = tiny.forget().get(0).question();
    String answer = tiny.forget().get(0).answer();
    List<Double> boundaries = new ArrayList<>();
    String expected;
    try (LanguageModel model = engine.load(tiny.directory());
        Training training = tiny.unlearn(model, steps).build()) {
      boundaries.add(model.score(question, answer).nll());
      while (training.next().isPresent()) {
        boundaries.add(model.score(question, answer).nll());
      }
      expected = adapter(model, dir.resolve("a"));
    }
    assertEquals(steps + 1, Set.copyOf(boundaries).size(), "every step changes the answer");
    try (LanguageModel model = engine.load(tiny.directory());
        Training training = tiny.unlearn(model, steps).build()) {
      Asking asking = new Asking(model, question, answer, boundaries.get(0));
      List<CompletableFuture<List<Double>>> scored = new ArrayList<>();
      for (int i = 0; i < threads; i++) {
        scored.add(asking.begin());
      }
      assertEquals(steps, training.runAsync().join().steps());
      asking.over().set(true);
      Set<Integer> seen = new TreeSet<>();
      for (CompletableFuture<List<Double>> values : scored) {
        int last = 0;
        for (double value : values.join()) {
          int boundary = boundaries.indexOf(value);
          assertTrue(boundary >= last, "a score of no step, or of one before the last: " + value);
          last = boundary;
          seen.add(boundary);
        }
      }
      // First come, first served: whoever asks is not kept waiting to the end.
      assertTrue(seen.size() >= 3, "the threads came in between at " + seen);
      assertEquals(expected, adapter(model, dir.resolve("b")));
    }
  }

  /** Asks a model the same thing until it is told that it is over. */
  private record Asking(
      LanguageModel model, String question, String answer, double base, AtomicBoolean over) {
    Asking(LanguageModel model, String question, String answer, double base) {
      this(model, question, answer, base, new AtomicBoolean());
    }

    /** Returns when the first answer is there. */
    CompletableFuture<List<Double>> begin() throws InterruptedException {
      CompletableFuture<List<Double>> result = new CompletableFuture<>();
      CountDownLatch asked = new CountDownLatch(1);
      new Thread(
              () -> {
                List<Double> values = new ArrayList<>();
                try {
                  do {
                    values.add(model.score(question, answer).nll());
                    asked.countDown();
                    Example row = Example.of(question, answer);
                    assertEquals(base, model.scoreBase(List.of(row)).get(0).nll());
                  } while (!over.get());
                  result.complete(values);
                } catch (RuntimeException | AssertionError e) {
                  asked.countDown();
                  result.completeExceptionally(e);
                }
              })
          .start();
      asked.await();
      return result;
    }
  }
}
