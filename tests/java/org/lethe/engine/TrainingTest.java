package org.lethe.engine;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertSame;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;
import static org.lethe.engine.TinyModel.adapter;

import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.Set;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.TimeUnit;
import org.junit.jupiter.api.AfterAll;
import org.junit.jupiter.api.BeforeAll;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.Timeout;
import org.junit.jupiter.api.io.TempDir;
import org.lethe.UserException;
import org.lethe.config.Config;
import org.lethe.config.RunConfig;
import org.lethe.evaluate.Evaluation;
import org.lethe.method.MethodConfig;
import org.lethe.method.Methods;
import org.lethe.model.LoraConfig;
import org.lethe.run.RunListener;
import org.lethe.run.Unlearn;
import org.lethe.train.Every;
import org.lethe.train.Schedule;
import org.lethe.train.StepReport;
import org.lethe.train.StopRule;
import org.lethe.train.TrainSettings;
import org.lethe.train.TrainingLoop;

@Timeout(value = 60, unit = TimeUnit.SECONDS, threadMode = Timeout.ThreadMode.SEPARATE_THREAD)
// Closing twice, and where it is refused, is what is tested.
@SuppressWarnings("try")
class TrainingTest {
  private static final Every EVERY_TWO = new Every(2, Every.Unit.STEP);

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

  private String alone(int steps) throws IOException {
    try (LanguageModel model = engine.load(tiny.directory());
        Training training = tiny.unlearn(model, steps).build()) {
      assertEquals(TrainingLoop.End.COMPLETE, training.run().end());
      return adapter(model, dir.resolve("alone"));
    }
  }

  @Test
  void itComesToTheBitsOfTheCommandLine() throws IOException {
    Path output = dir.resolve("run");
    Unlearn.run(
        Config.of(
            RunConfig.class,
            List.of(
                "model=" + tiny.directory(),
                "output=" + output,
                "threads=1",
                "seed=7",
                "method.forget=NPO",
                "method.retain=GD",
                "data.forget=[" + tiny.forgetFile() + "]",
                "data.retain=[" + tiny.retainFile() + "]",
                "evaluate.max_new_tokens=1",
                "lora.rank=2",
                "lora.alpha=4",
                "train.batch_size=3",
                "train.steps=4",
                "train.schedule=constant",
                "train.warmup_steps=0",
                "train.learning_rate=5e-3")),
        null,
        RunListener.NONE);
    RunConfig used = Config.load(RunConfig.class, output.resolve("config.yaml"), List.of());
    try (LanguageModel model = engine.load(tiny.directory());
        Training training =
            tiny.unlearn(model, 4)
                .seed(7)
                .referenceCache(dir.resolve("reference"))
                .settings(
                    new TrainSettings(
                        4,
                        5e-3,
                        Schedule.CONSTANT,
                        0,
                        used.train().adamBeta1(),
                        used.train().adamBeta2(),
                        used.train().adamEps(),
                        used.train().weightDecay(),
                        used.train().maxGradientNorm(),
                        used.train().tokensPerMicroBatch(),
                        TrainSettings.OnNonFinite.STOP))
                .build()) {
      training.run();
      model.saveAdapter(dir.resolve("mine"));
    }
    assertEquals(
        -1,
        Files.mismatch(
            output.resolve("adapter/adapter_model.safetensors"),
            dir.resolve("mine/adapter_model.safetensors")));
  }

  @Test
  void stepsByHandAreTheStepsOfARun() throws IOException {
    String expected = alone(5);
    List<Integer> steps = new ArrayList<>();
    try (LanguageModel model = engine.load(tiny.directory());
        Training training = tiny.unlearn(model, 5).build()) {
      Optional<StepReport> report = training.next();
      while (report.isPresent()) {
        steps.add(report.get().step());
        model.generate("Who?", 2);
        report = training.next();
      }
      assertEquals(5, training.done());
      assertEquals(Optional.empty(), training.next());
      assertEquals(expected, adapter(model, dir.resolve("a")));
    }
    assertEquals(List.of(0, 1, 2, 3, 4), steps);
  }

  @Test
  void aCancelledTrainingGoesOnToTheSameBits() throws IOException {
    String expected = alone(6);
    Path checkpoints = dir.resolve("checkpoints");
    List<String> told = new ArrayList<>();
    try (LanguageModel model = engine.load(tiny.directory())) {
      Training[] self = new Training[1];
      self[0] =
          tiny.unlearn(model, 6)
              .checkpoints(checkpoints, EVERY_TWO, 2)
              .onStep(
                  report -> {
                    if (report.step() == 2) {
                      self[0].cancel();
                    }
                  })
              .listener(
                  new TrainingListener() {
                    @Override
                    public void checkpoint(int done, Path directory) {
                      told.add(done + " " + directory.getFileName());
                    }
                  })
              .build();
      try (Training training = self[0]) {
        TrainingLoop.Outcome outcome = training.run();
        assertEquals(new TrainingLoop.Outcome(TrainingLoop.End.REQUESTED, "cancel()", 3), outcome);
      }
      assertEquals(List.of("2 step-000000002", "3 step-000000003"), told);
      UserException there =
          assertThrows(
              UserException.class,
              () -> tiny.unlearn(model, 6).checkpoints(checkpoints, EVERY_TWO, 2).build());
      assertTrue(there.getMessage().contains("resume()"), there.getMessage());
    }
    try (LanguageModel model = engine.load(tiny.directory());
        Training training =
            tiny.unlearn(model, 6).checkpoints(checkpoints, EVERY_TWO, 2).resume().build()) {
      assertEquals(3, training.done());
      assertEquals(new TrainingLoop.Outcome(TrainingLoop.End.COMPLETE, "", 6), training.run());
      assertEquals(expected, adapter(model, dir.resolve("a")));
    }
    try (LanguageModel model = engine.load(tiny.directory())) {
      UserException other =
          assertThrows(
              UserException.class,
              () -> tiny.unlearn(model, 7).checkpoints(checkpoints, EVERY_TWO, 2).resume().build());
      assertTrue(other.getMessage().contains("other rows or settings"), other.getMessage());
      assertThrows(UserException.class, () -> tiny.unlearn(model, 7).resume().build());
    }
  }

  @Test
  void aListenersExceptionEndsItAndReachesWhoeverWaits() throws IOException {
    String expected = alone(2);
    try (LanguageModel model = engine.load(tiny.directory())) {
      IllegalStateException mine = new IllegalStateException("mine");
      try (Training training =
          tiny.unlearn(model, 2)
              .onStep(
                  report -> {
                    throw mine;
                  })
              .build()) {
        assertSame(mine, assertThrows(IllegalStateException.class, training::run));
      }
    }
    // The engine has taken no harm.
    assertEquals(expected, alone2());
  }

  private String alone2() throws IOException {
    try (LanguageModel model = engine.load(tiny.directory());
        Training training = tiny.unlearn(model, 2).build()) {
      training.run();
      return adapter(model, dir.resolve("again"));
    }
  }

  @Test
  void whatDoesNotGoTogetherIsRefused() {
    try (LanguageModel model = engine.load(tiny.directory());
        Training training = tiny.unlearn(model, 3).build()) {
      assertThrows(UserException.class, () -> tiny.unlearn(model, 3).build(), "one at a time");
      CompletableFuture<TrainingLoop.Outcome> running = training.runAsync();
      assertThrows(UserException.class, training::runAsync);
      assertThrows(UserException.class, training::next);
      running.join();
      training.close();
      training.close();
      assertThrows(UserException.class, training::done);
      assertThrows(UserException.class, training::run);
      assertThrows(UserException.class, () -> tiny.unlearn(model, 3).allWeights().build());
      assertThrows(
          UserException.class,
          () ->
              model
                  .unlearn(Methods.create(MethodConfig.of("GA")), List.of(), List.of())
                  .settings(TrainSettings.of(1, 1e-3, Schedule.CONSTANT, 0))
                  .build());
      assertThrows(UserException.class, () -> model.save(dir.resolve("base")));
      assertThrows(
          UserException.class,
          () -> tiny.unlearn(model, 3).evaluate(Map.of(), new Every(1, Every.Unit.MINUTE)));
      assertThrows(
          UserException.class,
          () -> tiny.unlearn(model, 3).checkpoints(dir, new Every(9, Every.Unit.STEP), 1).build());
    }
  }

  @Test
  void aListenerCannotCloseOrStepWhatCallsIt() {
    List<String> refused = new ArrayList<>();
    try (LanguageModel model = engine.load(tiny.directory())) {
      Training[] self = new Training[1];
      self[0] =
          tiny.unlearn(model, 1)
              .onStep(
                  report -> {
                    for (Runnable call :
                        List.<Runnable>of(
                            () -> self[0].close(), () -> self[0].next(), () -> model.close())) {
                      refused.add(assertThrows(UserException.class, call::run).getMessage());
                    }
                  })
              .build();
      try (Training training = self[0]) {
        assertEquals(1, training.run().steps());
      }
    }
    assertEquals(3, refused.size());
  }

  @Test
  void rulesEndItAndEvaluationsAreTold() {
    List<Integer> judged = new ArrayList<>();
    try (LanguageModel model = engine.load(tiny.directory());
        Training training =
            tiny.unlearn(model, 50)
                .evaluate(Map.of("forget", tiny.forget()), EVERY_TWO)
                .maxNewTokens(2)
                .stopWhen(
                    List.of(
                        StopRule.parse(
                            "forget.probability < 2 for 2",
                            Set.of("forget.probability"),
                            Set.of("NPO", "GD"),
                            "rule")))
                .listener(
                    new TrainingListener() {
                      @Override
                      public void evaluated(int done, Evaluation evaluation) {
                        judged.add(done);
                        assertTrue(evaluation.score("forget", "probability") < 1);
                      }
                    })
                .build()) {
      TrainingLoop.Outcome outcome = training.run();
      assertEquals(TrainingLoop.End.RULE, outcome.end());
      assertEquals(List.of(2, 4), judged);
    }
  }

  @Test
  void trainingAgainStartsWithAFreshOptimizer() throws IOException {
    Path first = dir.resolve("first");
    String there;
    try (LanguageModel model = engine.load(tiny.directory())) {
      try (Training training = tiny.unlearn(model, 3).build()) {
        training.run();
      }
      model.saveAdapter(first);
      try (Training training = tiny.unlearn(model, 2).seed(9).build()) {
        training.run();
      }
      there = adapter(model, dir.resolve("there"));
    }
    try (LanguageModel model = engine.load(tiny.directory())) {
      model.loadAdapter(first, true);
      assertEquals(Optional.of(2), model.adapter().map(LoraConfig::rank));
      try (Training training = tiny.unlearn(model, 2).seed(9).build()) {
        training.run();
      }
      assertEquals(there, adapter(model, dir.resolve("loaded")));
    }
    try (LanguageModel model = engine.load(tiny.directory())) {
      model.loadAdapter(first, false);
      assertThrows(UserException.class, () -> tiny.unlearn(model, 2).build());
    }
  }

  @Test
  void finetuningAllWeightsRaisesTheLikelihoodAndTakesWhatItSaid() {
    try (Engine own = Engine.cpu(1);
        LanguageModel model = own.load(tiny.directory())) {
      double before = model.score(tiny.retain()).get(0).nll();
      try (Training training =
          model
              .finetune(tiny.retain())
              .allWeights()
              .batchSize(9)
              .settings(TrainSettings.of(5, 3e-3, Schedule.CONSTANT, 0))
              .build()) {
        long planned = own.allocatedBytes();
        assertTrue(training.plannedBytes() > 0);
        training.run();
        assertEquals(planned, own.allocatedBytes(), "all memory was taken before the first step");
      }
      assertTrue(model.score(tiny.retain()).get(0).nll() < before);
      assertThrows(UserException.class, () -> model.scoreBase(tiny.retain()));
      model.save(dir.resolve("tuned"));
      assertFalse(Files.exists(dir.resolve("tuned/adapter_config.json")));
    }
  }
}
