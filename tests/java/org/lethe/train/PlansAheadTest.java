package org.lethe.train;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertNotSame;
import static org.junit.jupiter.api.Assertions.assertSame;
import static org.junit.jupiter.api.Assertions.assertThrows;

import java.util.ArrayList;
import java.util.Collections;
import java.util.List;
import java.util.Map;
import java.util.TreeMap;
import org.junit.jupiter.api.Test;
import org.lethe.TestDevice;
import org.lethe.UserException;
import org.lethe.kernels.Backend;
import org.lethe.kernels.Dtype;
import org.lethe.method.Method;
import org.lethe.method.MethodConfig;
import org.lethe.method.Methods;
import org.lethe.model.GradientReader;
import org.lethe.model.LoraConfig;
import org.lethe.model.Model;

/** Steps that are planned while the one before is computed. */
class PlansAheadTest {
  private static final int STEPS = 5;
  private final Method method = Methods.create(MethodConfig.of("NPO+GD"));

  /** Other sequences in every step, and a record of who asked for which. */
  private final class Source implements BatchSource {
    final boolean ahead;
    final int failing;
    final List<Integer> asked = Collections.synchronizedList(new ArrayList<>());
    final Map<Integer, Thread> threads = Collections.synchronizedMap(new TreeMap<>());

    Source(boolean ahead, int failing) {
      this.ahead = ahead;
      this.failing = failing;
    }

    @Override
    public int stepsPerEpoch() {
      return 3;
    }

    @Override
    public boolean knownAhead() {
      return ahead;
    }

    @Override
    public List<StepSequence> step(int index) {
      asked.add(index);
      threads.put(index, Thread.currentThread());
      if (index == failing) {
        throw new UserException("row 17 of the step is broken");
      }
      int pair = index % 3;
      return GoldenSteps.of(method).stream().filter(s -> s.pair() == pair).toList();
    }

    @Override
    public Iterable<List<StepSequence>> sizes(int count) {
      return List.of(GoldenSteps.of(method));
    }
  }

  private record Ran(List<Double> losses, Map<String, float[]> gradients) {}

  private interface Use {
    void of(Model model, Trainer trainer);
  }

  private void withTrainer(Source source, Use use) {
    try (Backend backend = TestDevice.open(2);
        Model model = GoldenSteps.model(backend, Dtype.F32)) {
      model.addLora(LoraConfig.all(4, 8), 7);
      TrainSettings settings =
          GoldenSteps.settings(STEPS, 1e-2, 4096, TrainSettings.OnNonFinite.STOP);
      try (Trainer trainer = new Trainer(model, method, settings, source, null)) {
        use.of(model, trainer);
      }
    }
  }

  private Ran run(Source source) {
    List<Double> losses = new ArrayList<>();
    Map<String, float[]> last = new TreeMap<>();
    withTrainer(
        source,
        (model, trainer) -> {
          trainer.run(report -> losses.add(report.loss()));
          last.putAll(GradientReader.gradients(model.trainable()));
        });
    return new Ran(losses, last);
  }

  @Test
  void aStepThatWasPlannedAheadHasTheSameBits() {
    Source inTurn = new Source(false, -1);
    Source ahead = new Source(true, -1);
    Ran expected = run(inTurn);
    Ran found = run(ahead);
    assertEquals(expected.losses(), found.losses());
    expected.gradients().forEach((k, g) -> assertArrayEquals(g, found.gradients().get(k), k));
    assertEquals(List.of(0, 1, 2, 3, 4), inTurn.asked);
    assertEquals(List.of(0, 1, 2, 3, 4), ahead.asked);
    for (int i = 0; i < STEPS; i++) {
      assertSame(Thread.currentThread(), inTurn.threads.get(i));
    }
    assertSame(Thread.currentThread(), ahead.threads.get(0));
    assertNotSame(Thread.currentThread(), ahead.threads.get(1));
    assertSame(ahead.threads.get(1), ahead.threads.get(4));
  }

  @Test
  void nothingIsUnderWayBetweenStepsNorAfterTheEnd() throws InterruptedException {
    Source source = new Source(true, -1);
    withTrainer(
        source,
        (model, trainer) -> {
          for (int done = 1; done <= STEPS; done++) {
            trainer.next();
            assertEquals(Math.min(done + 1, STEPS), source.threads.size());
          }
        });
    Thread thread = source.threads.get(1);
    thread.join(5000);
    assertFalse(thread.isAlive());
  }

  @Test
  void whatGoesWrongIsThrownWhereItsStepIsTaken() throws InterruptedException {
    Source source = new Source(true, 2);
    withTrainer(
        source,
        (model, trainer) -> {
          trainer.next();
          trainer.next();
          assertEquals(List.of(0, 1, 2), source.asked);
          for (int again = 0; again < 2; again++) {
            UserException e = assertThrows(UserException.class, trainer::next);
            assertEquals("row 17 of the step is broken", e.getMessage());
            assertEquals(2, trainer.done());
          }
        });
    Thread thread = source.threads.get(1);
    thread.join(5000);
    assertFalse(thread.isAlive());
  }

  @Test
  void aRunThatGoesOnElsewhereDropsThePlan() {
    Source source = new Source(true, -1);
    withTrainer(
        source,
        (model, trainer) -> {
          trainer.next();
          trainer.resumeAt(3, 0);
          assertEquals(3, trainer.next().step());
          assertEquals(4, trainer.next().step());
        });
    assertEquals(List.of(0, 1, 3, 4), source.asked);
  }
}
