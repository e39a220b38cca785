package org.lethe.train;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;

import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.Set;
import java.util.concurrent.atomic.AtomicLong;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.lethe.TestDevice;
import org.lethe.kernels.Backend;
import org.lethe.kernels.Dtype;
import org.lethe.method.Method;
import org.lethe.method.Methods;
import org.lethe.model.LoraConfig;
import org.lethe.model.Model;

class TrainingLoopTest {
  private final List<String> course = new ArrayList<>();
  private Backend backend;
  private Model model;
  private Trainer trainer;

  @BeforeEach
  void open() {
    backend = TestDevice.open(1);
    model = GoldenSteps.model(backend, Dtype.F32);
    model.addLora(LoraConfig.all(2, 4), 3);
    Method method = Methods.fineTuning();
    List<StepSequence> step = GoldenSteps.of(method);
    BatchSource batches =
        new BatchSource() {
          @Override
          public int stepsPerEpoch() {
            return 4;
          }

          @Override
          public List<StepSequence> step(int index) {
            return step;
          }
        };
    TrainSettings settings = GoldenSteps.settings(10, 1e-3, 4096, TrainSettings.OnNonFinite.STOP);
    trainer = new Trainer(model, method, settings, batches, null);
  }

  @AfterEach
  void close() {
    trainer.close();
    model.close();
    backend.close();
  }

  /** Writes down what happens; scores fall by 0.1 at every evaluation, from 0.5. */
  private final class Recorder implements TrainingLoop.Hooks {
    private final int stopAfter;
    private double score = 0.5;

    Recorder(int stopAfter) {
      this.stopAfter = stopAfter;
    }

    @Override
    public void step(StepReport report) {
      course.add("s" + report.step());
    }

    @Override
    public Map<String, Double> evaluate(int done) {
      score -= 0.1;
      course.add("e" + done);
      return Map.of("forget.probability", score);
    }

    @Override
    public void checkpoint(int done) {
      course.add("c" + done);
    }

    @Override
    public Optional<String> stopRequested() {
      return trainer.done() >= stopAfter ? Optional.of("test") : Optional.empty();
    }
  }

  private TrainingLoop loop(String evaluate, String checkpoint, int stopAfter, String... rules) {
    List<StopRule> parsed = new ArrayList<>();
    for (String rule : rules) {
      parsed.add(StopRule.parse(rule, Set.of("forget.probability"), Set.of("GD"), "k"));
    }
    return new TrainingLoop(
        trainer,
        new TrainingLoop.Plan(Every.parse(evaluate, "k"), Every.parse(checkpoint, "k"), parsed),
        new Recorder(stopAfter));
  }

  @Test
  void evaluatesAndThenWritesACheckpointWhenDue() {
    TrainingLoop.Outcome outcome = loop("1 epoch", "3 steps", 99).run();
    assertEquals(new TrainingLoop.Outcome(TrainingLoop.End.COMPLETE, "", 10), outcome);
    assertEquals(
        List.of(
            "s0", "s1", "s2", "c3", "s3", "e4", "s4", "s5", "c6", "s6", "s7", "e8", "s8", "c9",
            "s9", "c10"),
        course);
  }

  @Test
  void aRuleEndsTheRunWhenItHasHeldOftenEnough() {
    TrainingLoop loop =
        loop("2 steps", "never", 99, "loss > 1e9", "forget.probability < 0.35 for 2");
    TrainingLoop.Outcome outcome = loop.run();
    // Scores 0.4, 0.3, 0.2: it holds at the second and the third evaluation.
    assertEquals(
        new TrainingLoop.Outcome(TrainingLoop.End.RULE, "forget.probability < 0.35 for 2", 6),
        outcome);
    assertEquals(2, loop.streaks().get("forget.probability < 0.35 for 2"));
    assertEquals(0, loop.streaks().get("loss > 1e9"));
  }

  @Test
  void rulesOfAStepAreJudgedAtEveryStep() {
    TrainingLoop.Outcome outcome = loop("never", "never", 99, "step >= 3 and loss > 0").run();
    assertEquals(3, outcome.steps());
    assertEquals(List.of("s0", "s1", "s2"), course);
  }

  @Test
  void aRunThatARuleEndedDoesNotGoOnWhenResumed() {
    TrainingLoop loop = loop("never", "never", 99, "step >= 3");
    trainer.resumeAt(3, 0);
    loop.restore(Map.of("step >= 3", 1));
    assertEquals(TrainingLoop.End.RULE, loop.run().end());
    assertEquals(List.of(), course);
  }

  @Test
  void aRequestStopsItWithACheckpoint() {
    TrainingLoop.Outcome outcome = loop("never", "never", 5).run();
    assertEquals(new TrainingLoop.Outcome(TrainingLoop.End.REQUESTED, "test", 5), outcome);
    assertEquals(List.of("s0", "s1", "s2", "s3", "s4", "c5"), course);
  }

  @Test
  void minutesAreCountedFromTheLastCheckpoint() {
    AtomicLong nanos = new AtomicLong();
    TrainingLoop.Plan plan =
        new TrainingLoop.Plan(Every.NEVER, Every.parse("2 minutes", "k"), List.of());
    // Half a minute between two looks at the clock.
    TrainingLoop loop =
        new TrainingLoop(trainer, plan, new Recorder(99), () -> nanos.addAndGet(30_000_000_000L));
    loop.run();
    // Every checkpoint looks once more, so the next is due four steps and not five later.
    assertEquals(
        List.of("s0", "s1", "s2", "s3", "c4", "s4", "s5", "s6", "s7", "c8", "s8", "s9", "c10"),
        course);
  }

  @Test
  void anExceptionOfAHookEndsTheRun() {
    TrainingLoop loop =
        new TrainingLoop(
            trainer,
            TrainingLoop.Plan.STEPS_ONLY,
            new TrainingLoop.Hooks() {
              @Override
              public void step(StepReport report) {
                throw new IllegalStateException("listener");
              }
            });
    assertThrows(IllegalStateException.class, loop::run);
    assertEquals(1, trainer.done());
  }
}
