package org.lethe.engine;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertNotEquals;
import static org.junit.jupiter.api.Assertions.assertSame;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.nio.file.Files;
import java.nio.file.Path;
import java.util.List;
import java.util.concurrent.CancellationException;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.CompletionException;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicBoolean;
import java.util.concurrent.atomic.AtomicReference;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.Timeout;
import org.junit.jupiter.api.io.TempDir;
import org.lethe.EnvironmentException;
import org.lethe.NativeException;
import org.lethe.UserException;
import org.lethe.kernels.Backend;
import org.lethe.model.BaseStorage;

@Timeout(value = 60, unit = TimeUnit.SECONDS, threadMode = Timeout.ThreadMode.SEPARATE_THREAD)
// Closing twice, and where it is refused, is what is tested.
@SuppressWarnings("try")
class EngineTest {
  @Test
  void allWorkIsDoneOnOneNamedDaemonThread() {
    try (Engine engine = Engine.cpu(1)) {
      Thread first = engine.call(own -> Thread.currentThread());
      Thread second = engine.submit(own -> Thread.currentThread()).join();
      assertSame(first, second);
      assertEquals("lethe-cpu", first.getName());
      assertTrue(first.isDaemon());
      assertTrue(engine.description().contains("\"threads\":1"), engine.description());
    }
  }

  @Test
  void closingEndsTheThreadAndIsDoneOnce() throws InterruptedException {
    Engine engine = Engine.cpu(1);
    Thread thread = engine.call(own -> Thread.currentThread());
    engine.close();
    engine.close();
    thread.join();
    assertFalse(thread.isAlive());
    assertThrows(UserException.class, engine::allocatedBytes);
    assertThrows(UserException.class, () -> engine.submit(own -> 1));
    assertThrows(UserException.class, () -> engine.load(Path.of("nowhere")));
  }

  @Test
  void whatWaitsIsDoneBeforeItCloses() throws InterruptedException {
    Engine engine = Engine.cpu(1);
    CountDownLatch begun = new CountDownLatch(1);
    CountDownLatch go = new CountDownLatch(1);
    CompletableFuture<Integer> slow =
        engine.submit(
            own -> {
              begun.countDown();
              await(go);
              return 1;
            });
    CompletableFuture<Integer> waiting = engine.submit(own -> 2);
    begun.await();
    Thread closer = new Thread(engine::close);
    closer.start();
    go.countDown();
    closer.join();
    assertEquals(1, slow.join());
    assertEquals(2, waiting.join());
  }

  @Test
  void anExceptionReachesTheCallerAsItself() {
    try (Engine engine = Engine.cpu(1)) {
      UserException thrown = new UserException("mine");
      assertSame(
          thrown,
          assertThrows(
              UserException.class,
              () ->
                  engine.call(
                      own -> {
                        throw thrown;
                      })));
      AssertionError error = new AssertionError("mine");
      assertSame(
          error,
          assertThrows(
              AssertionError.class,
              () ->
                  engine.call(
                      own -> {
                        throw error;
                      })));
      CompletionException wrapped =
          assertThrows(
              CompletionException.class,
              () ->
                  engine
                      .submit(
                          own -> {
                            throw thrown;
                          })
                      .join());
      assertSame(thrown, wrapped.getCause());
      // The thread has outlived them all.
      assertEquals(3, engine.call(own -> 3).intValue());
    }
  }

  @Test
  void anUnknownDeviceIsAnErrorAndLeavesNoThread() {
    assertThrows(EnvironmentException.class, () -> Engine.open("abacus", 1));
    assertThrows(NativeException.class, () -> Engine.cpu(0));
    assertTrue(
        Thread.getAllStackTraces().keySet().stream()
            .noneMatch(t -> t.getName().equals("lethe-abacus") && t.isAlive() && !ends(t)));
  }

  private static boolean ends(Thread thread) {
    try {
      thread.join();
      return true;
    } catch (InterruptedException e) {
      throw new AssertionError(e);
    }
  }

  @Test
  void callsFromItsOwnThreadDoNotWaitForThemselves() {
    try (Engine engine = Engine.cpu(1)) {
      assertTrue(engine.call(own -> engine.call(Backend::allocatedBytes)) >= 0);
      assertThrows(
          UserException.class,
          () ->
              engine.call(
                  own -> {
                    engine.close();
                    return 0;
                  }));
      assertEquals(4, engine.call(own -> 4).intValue());
    }
  }

  @Test
  void anInterruptedCallerIsLetGoAndItsWorkIsNotBegun() throws InterruptedException {
    try (Engine engine = Engine.cpu(1)) {
      CountDownLatch begun = new CountDownLatch(1);
      CountDownLatch go = new CountDownLatch(1);
      AtomicBoolean ran = new AtomicBoolean();
      AtomicReference<Throwable> thrown = new AtomicReference<>();
      AtomicBoolean flag = new AtomicBoolean();
      CompletableFuture<Integer> slow =
          engine.submit(
              own -> {
                begun.countDown();
                await(go);
                return 1;
              });
      begun.await();
      Thread caller =
          new Thread(
              () -> {
                try {
                  engine.call(
                      own -> {
                        ran.set(true);
                        return 0;
                      });
                } catch (CancellationException e) {
                  thrown.set(e);
                  flag.set(Thread.currentThread().isInterrupted());
                }
              });
      caller.start();
      caller.interrupt();
      caller.join();
      assertTrue(thrown.get() instanceof CancellationException, String.valueOf(thrown.get()));
      assertTrue(flag.get(), "the interrupt flag stays set");
      go.countDown();
      assertEquals(1, slow.join());
      assertEquals(2, engine.call(own -> 2).intValue());
      assertFalse(ran.get(), "what nobody waits for is not begun");
    }
  }

  @Test
  void aModelIsRefusedAfterItWasClosedAndFreedWithItsEngine(@TempDir Path dir) {
    TinyModel tiny = TinyModel.make(dir, 1);
    LanguageModel kept;
    try (Engine engine = Engine.cpu(1)) {
      long predicted = LanguageModel.predictedBytes(tiny.directory(), LoadOptions.DEFAULT);
      LanguageModel model = engine.load(tiny.directory());
      assertEquals(predicted, engine.allocatedBytes());
      model.close();
      model.close();
      assertEquals(0, engine.allocatedBytes());
      assertThrows(UserException.class, () -> model.score("a", "b"));
      LoadOptions small = LoadOptions.DEFAULT.bf16().withContextLength(64);
      kept = engine.load(tiny.directory(), small);
      assertEquals(LanguageModel.predictedBytes(tiny.directory(), small), engine.allocatedBytes());
      assertTrue(engine.allocatedBytes() < predicted * 0.6, "bf16 takes about half");
    }
    assertThrows(UserException.class, () -> kept.score("a", "b"));
    kept.close();
  }

  @Test
  void aModelScoresGeneratesAndIsSaved(@TempDir Path dir) {
    TinyModel tiny = TinyModel.make(dir, 1);
    Path saved = dir.resolve("saved");
    try (Engine engine = Engine.cpu(1);
        LanguageModel model = engine.load(tiny.directory())) {
      String question = tiny.forget().get(0).question();
      String answer = tiny.forget().get(0).answer();
      double nll = model.score(question, answer).nll();
      assertTrue(nll > 0 && Double.isFinite(nll), () -> "nll " + nll);
      List<String> generated = model.generate(List.of(question, question), 5);
      assertEquals(model.generate(question, 5), generated.get(1));
      assertEquals(List.of(), model.score(List.of()));
      model.save(saved);
      try (LanguageModel again = engine.load(saved)) {
        assertEquals(nll, again.score(question, answer).nll());
      }
      assertThrows(UserException.class, () -> model.save(saved));
      assertThrows(UserException.class, () -> model.saveAdapter(dir.resolve("none")));
      assertFalse(Files.exists(dir.resolve("none")));
      assertThrows(UserException.class, () -> model.evaluate(java.util.Map.of()));
    }
  }

  @Test
  void aModelKeptInFourBitsIsSavedAsWhatItsCodesMean(@TempDir Path dir) {
    TinyModel tiny = TinyModel.make(dir, 1);
    Path saved = dir.resolve("saved");
    String question = tiny.forget().get(0).question();
    String answer = tiny.forget().get(0).answer();
    try (Engine engine = Engine.cpu(1)) {
      LoadOptions options = LoadOptions.DEFAULT.withBase(BaseStorage.NF4_DOUBLE);
      double nll;
      try (LanguageModel model = engine.load(tiny.directory(), options)) {
        assertEquals(
            LanguageModel.predictedBytes(tiny.directory(), options), engine.allocatedBytes());
        nll = model.score(question, answer).nll();
        model.save(saved);
      }
      try (LanguageModel plain = engine.load(saved);
          LanguageModel before = engine.load(tiny.directory())) {
        assertEquals(nll, plain.score(question, answer).nll());
        assertNotEquals(nll, before.score(question, answer).nll());
      }
    }
  }

  private static void await(CountDownLatch latch) {
    try {
      latch.await();
    } catch (InterruptedException e) {
      throw new AssertionError(e);
    }
  }
}
