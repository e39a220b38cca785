package org.lethe.train;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertNotEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.io.ByteArrayOutputStream;
import java.io.IOException;
import java.io.UncheckedIOException;
import java.nio.channels.Channels;
import java.nio.channels.WritableByteChannel;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.stream.Stream;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.Arguments;
import org.junit.jupiter.params.provider.MethodSource;
import org.lethe.TestDevice;
import org.lethe.UserException;
import org.lethe.checkpoint.ModelDirectory;
import org.lethe.checkpoint.TrainingState;
import org.lethe.data.TokenSequence;
import org.lethe.kernels.Backend;
import org.lethe.kernels.Dtype;
import org.lethe.kernels.Ops;
import org.lethe.method.Method;
import org.lethe.method.MethodConfig;
import org.lethe.method.Methods;
import org.lethe.model.Goldens;
import org.lethe.model.LoraConfig;
import org.lethe.model.Model;
import org.lethe.model.OptimizerConfig;
import org.lethe.model.OptimizerConfig.Master;
import org.lethe.model.OptimizerConfig.Moments;

/** Runs with less optimizer state, and with the update in the backward pass. */
class OptimizerConfigTest {
  private static final int STEPS = 4;
  private static final Method METHOD = Methods.create(MethodConfig.of("ME+GD"));

  private Backend backend;

  @BeforeEach
  void open() {
    backend = TestDevice.open(1);
  }

  @AfterEach
  void close() {
    backend.close();
  }

  private static TrainSettings settings(int steps, double learningRate, double maxNorm) {
    return new TrainSettings(
        steps,
        learningRate,
        Schedule.CONSTANT,
        0,
        0.9,
        0.999,
        1e-8,
        0.01,
        maxNorm,
        4096,
        TrainSettings.OnNonFinite.STOP);
  }

  /** What a run came to. */
  private record Result(List<StepReport> reports, byte[] state) {
    double fell() {
      return reports.get(0).loss() - reports.get(reports.size() - 1).loss();
    }
  }

  /** The golden sequences with the tokens that a model has. */
  private static List<StepSequence> steps(Method method, int vocabulary) {
    return GoldenSteps.of(method).stream()
        .map(
            s ->
                new StepSequence(
                    s.role(),
                    s.pair(),
                    new TokenSequence(
                        Arrays.stream(s.tokens().ids()).map(id -> id % vocabulary).toArray(),
                        s.tokens().answerStart()),
                    s.source()))
        .toList();
  }

  private Result run(
      String model, Dtype dtype, OptimizerConfig config, Method method, TrainSettings settings) {
    List<StepReport> reports = new ArrayList<>();
    try (Model loaded = ModelDirectory.load(new Ops(backend, dtype), Goldens.path(model), 64)) {
      loaded.optimizer(config);
      loaded.trainWeights();
      BatchSource batches = GoldenSteps.repeated(steps(method, loaded.config().vocabularySize()));
      try (Trainer trainer = new Trainer(loaded, method, settings, batches, null)) {
        trainer.run(reports::add);
      }
      ByteArrayOutputStream out = new ByteArrayOutputStream();
      try (WritableByteChannel channel = Channels.newChannel(out)) {
        TrainingState.write(loaded.trainable(), channel);
      } catch (IOException e) {
        throw new UncheckedIOException(e);
      }
      return new Result(reports, out.toByteArray());
    }
  }

  static Stream<Arguments> everyCombination() {
    List<Arguments> all = new ArrayList<>();
    for (String model : List.of("llama-tiny", "llama-tiny-tied")) {
      for (Dtype dtype : List.of(Dtype.F32, Dtype.BF16)) {
        for (Master master : Master.values()) {
          for (Moments moments : Moments.values()) {
            for (double maxNorm : new double[] {0, 0.5}) {
              if (dtype == Dtype.BF16 || master == Master.FP32) {
                all.add(Arguments.of(model, dtype, master, moments, maxNorm));
              }
            }
          }
        }
      }
    }
    return all.stream();
  }

  /** Parameters, moments and scales, to the bit; the norm is a sum in another order. */
  @ParameterizedTest
  @MethodSource("everyCombination")
  void fusedIsTheSameTraining(
      String model, Dtype dtype, Master master, Moments moments, double maxNorm) {
    TrainSettings settings = settings(STEPS, 1e-3, maxNorm);
    Result apart = run(model, dtype, new OptimizerConfig(master, moments, false), METHOD, settings);
    Result fused = run(model, dtype, new OptimizerConfig(master, moments, true), METHOD, settings);
    for (int i = 0; i < STEPS; i++) {
      StepReport a = apart.reports().get(i);
      StepReport f = fused.reports().get(i);
      assertEquals(a.loss(), f.loss(), "loss of step " + i);
      assertEquals(a.gradientNorm(), f.gradientNorm(), 1e-6 * a.gradientNorm());
      assertTrue(maxNorm == 0 || a.gradientNorm() > maxNorm, "the clip does something");
    }
    int withoutUpdateState = apart.state().length - Ops.UPDATE_STATE * Float.BYTES;
    assertEquals(apart.state().length, fused.state().length);
    assertArrayEquals(
        Arrays.copyOf(apart.state(), withoutUpdateState),
        Arrays.copyOf(fused.state(), withoutUpdateState));
    assertTrue(fused.fell() > 0, "nothing was learned: " + fused.reports());
  }

  /**
   * A learning rate far below a bf16 step of most weights: rounded to nearest they would stay. With
   * random rounding the mean follows fp32; a few hundred thousand weights average the rest away.
   */
  @Test
  void withoutAMasterSmallUpdatesAddUp() {
    Method method = Methods.fineTuning();
    TrainSettings slow = settings(40, 1e-4, 1);
    OptimizerConfig none = new OptimizerConfig(Master.NONE, Moments.FP32, false);
    double wide = run("llama-tiny", Dtype.F32, OptimizerConfig.DEFAULT, method, slow).fell();
    double rounded = run("llama-tiny", Dtype.BF16, none, method, slow).fell();
    assertTrue(wide > 4.0 / 256, "fp32 moved by " + wide);
    assertEquals(wide, rounded, 0.15 * wide + 1.0 / 256);
  }

  @Test
  void theSeedOfRoundingIsTheRuns() {
    OptimizerConfig none = new OptimizerConfig(Master.NONE, Moments.FP32, false);
    TrainSettings settings = settings(2, 1e-3, 1);
    byte[] first = run("llama-tiny", Dtype.BF16, none, METHOD, settings.withSeed(1)).state();
    byte[] again = run("llama-tiny", Dtype.BF16, none, METHOD, settings.withSeed(1)).state();
    byte[] other = run("llama-tiny", Dtype.BF16, none, METHOD, settings.withSeed(2)).state();
    assertArrayEquals(first, again);
    assertFalse(Arrays.equals(first, other));
  }

  @ParameterizedTest
  @MethodSource("storages")
  void eightBitMomentsLearnAsMuch(Dtype dtype) {
    Method method = Methods.fineTuning();
    TrainSettings settings = settings(20, 1e-3, 1);
    OptimizerConfig coded = new OptimizerConfig(Master.FP32, Moments.EIGHT_BIT, false);
    double wide = run("llama-tiny", dtype, OptimizerConfig.DEFAULT, method, settings).fell();
    double narrow = run("llama-tiny", dtype, coded, method, settings).fell();
    assertTrue(wide > 0.1, "fp32 moments moved the loss by " + wide);
    assertEquals(wide, narrow, 0.1 * wide);
    assertNotEquals(wide, narrow, "codes were not used");
  }

  static Stream<Dtype> storages() {
    return Stream.of(Dtype.F32, Dtype.BF16);
  }

  @ParameterizedTest
  @MethodSource("storages")
  void adaptersTakeLessToo(Dtype dtype) {
    for (Moments moments : Moments.values()) {
      Master master = dtype == Dtype.BF16 ? Master.NONE : Master.FP32;
      List<Double> losses = new ArrayList<>();
      try (Model model = GoldenSteps.model(backend, dtype)) {
        model.optimizer(new OptimizerConfig(master, moments, false));
        model.addLora(LoraConfig.all(4, 8), 5);
        BatchSource batches = GoldenSteps.repeated(GoldenSteps.of(METHOD));
        float[] before = model.lora().values();
        try (Trainer trainer = new Trainer(model, METHOD, settings(10, 1e-2, 1), batches, null)) {
          trainer.run(report -> losses.add(report.loss()));
        }
        assertFalse(Arrays.equals(before, model.lora().values()));
      }
      assertTrue(losses.get(9) < losses.get(0) - 0.1, moments + ": " + losses);
    }
  }

  private static void assertRefused(String what, Runnable work) {
    UserException e = assertThrows(UserException.class, work::run);
    assertTrue(e.getMessage().contains(what), e.getMessage());
  }

  @Test
  void whatDoesNotGoTogetherIsRefused() {
    OptimizerConfig fused = new OptimizerConfig(Master.FP32, Moments.FP32, true);
    BatchSource batches = GoldenSteps.repeated(GoldenSteps.of(METHOD));
    try (Model model = GoldenSteps.model(backend, Dtype.F32)) {
      model.optimizer(new OptimizerConfig(Master.NONE, Moments.FP32, false));
      assertRefused("set dtype=bf16, or train.master=fp32", model::trainWeights);
      assertRefused("set dtype=bf16", () -> model.addLora(LoraConfig.all(4, 8), 5));
      model.optimizer(fused);
      assertRefused("set train.full_parameters=true", () -> model.addLora(LoraConfig.all(4, 8), 5));
      model.trainWeights();
      TrainSettings whole = settings(2, 1e-3, 1);
      assertRefused(
          "or train.shards=1",
          () -> new Trainer(model, METHOD, whole, batches, null, Sharding.local(2)).close());
      assertRefused(
          "cuts into pieces; set train.tokens_per_micro_batch=",
          () ->
              new Trainer(model, METHOD, whole.withTokensPerMicroBatch(32), batches, null).close());
      TrainSettings skip = GoldenSteps.settings(2, 1e-3, 4096, TrainSettings.OnNonFinite.SKIP);
      new Trainer(model, METHOD, skip, batches, null).close();
      assertRefused(
          "set train.max_gradient_norm above 0",
          () -> FusedSteps.requireSettings(0, TrainSettings.OnNonFinite.SKIP, 1, 0));
    }
  }

  /**
   * With a clip nothing moves; without, a loss that is not finite is seen before, a gradient not.
   */
  @Test
  void whatIsNotFiniteIsToldApart() {
    Method huge = Methods.create(MethodConfig.of("none+GD").withCoefficients(0, 1e42));
    List<StepSequence> sequences = GoldenSteps.of(huge);
    for (boolean clips : new boolean[] {true, false}) {
      try (Model model = GoldenSteps.model(backend, Dtype.F32)) {
        model.optimizer(new OptimizerConfig(Master.FP32, Moments.FP32, true));
        model.trainWeights();
        float[] before = Weights.of(model);
        TrainSettings stop = settings(1, 1e-2, clips ? 1 : 0);
        try (Step step = new Step(model, huge, stop, null, 4096)) {
          assertRefused(
              clips ? "the gradient is not finite; nothing was updated" : "Go on from the last",
              () -> step.run(0, sequences, 1e-2));
        }
        if (clips) {
          assertArrayEquals(before, Weights.of(model));
        }
      }
    }
  }
}
