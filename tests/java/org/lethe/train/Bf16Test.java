package org.lethe.train;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.Set;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.ValueSource;
import org.lethe.TestDevice;
import org.lethe.checkpoint.AdapterDirectory;
import org.lethe.kernels.Backend;
import org.lethe.kernels.Dtype;
import org.lethe.method.Method;
import org.lethe.method.MethodConfig;
import org.lethe.method.Methods;
import org.lethe.model.Generator;
import org.lethe.model.Goldens;
import org.lethe.model.GradientReader;
import org.lethe.model.LoraConfig;
import org.lethe.model.Model;

/** Storage in bf16, arithmetic in fp32: the same model, rounded to 8 bits. */
class Bf16Test {
  private static final double EPS = 1.0 / 256;
  // Tensors in storage that a gradient passes through: about ten a layer, forward and backward.
  // Their roundings are independent, so they add as the root. A gradient depends on the rounded
  // activations twice: by its own path and by the point it is taken at.
  private static final double ROUNDINGS = 2 * 3 * 10;
  private static final double GRADIENT_TOLERANCE = 2 * Math.sqrt(ROUNDINGS) * EPS;

  private Backend backend;

  @BeforeEach
  void open() {
    backend = TestDevice.open(1);
  }

  @AfterEach
  void close() {
    backend.close();
  }

  private static TrainSettings settings() {
    return GoldenSteps.settings(8, 1e-2, 4096, TrainSettings.OnNonFinite.STOP);
  }

  private record Result(double loss, Map<String, float[]> gradients) {}

  private Result gradients(Dtype dtype, Method method) {
    try (Model model = GoldenSteps.model(backend, dtype)) {
      AdapterDirectory.load(model, Goldens.path("llama-tiny/adapter"), true);
      try (Step step = new Step(model, method, settings(), null, 4096)) {
        double loss = step.gradients(GoldenSteps.of(method)).loss();
        return new Result(loss, GradientReader.gradients(model.trainable()));
      }
    }
  }

  @ParameterizedTest
  @ValueSource(strings = {"none+GD", "ME+GD", "GA+KL", "IDK+AP", "NPO+GD"})
  void lossAndGradientsAreThoseOfFp32UpToItsRounding(String name) {
    Method method = Methods.create(MethodConfig.of(name));
    Result wide = gradients(Dtype.F32, method);
    Result narrow = gradients(Dtype.BF16, method);
    assertEquals(wide.loss(), narrow.loss(), EPS * Math.max(1, Math.abs(wide.loss())), name);
    List<float[]> expected = new ArrayList<>();
    List<float[]> found = new ArrayList<>();
    wide.gradients()
        .forEach(
            (parameter, gradient) -> {
              expected.add(gradient);
              found.add(narrow.gradients().get(parameter));
            });
    double difference = 0;
    double norm = 0;
    for (int i = 0; i < expected.size(); i++) {
      difference += Math.pow(Goldens.distance(expected.get(i), found.get(i)), 2);
      norm += Math.pow(Goldens.norm(expected.get(i)), 2);
    }
    double error = Math.sqrt(difference / norm);
    assertTrue(error <= GRADIENT_TOLERANCE, name + ": gradients differ by " + error);
    // Two storages that gave the same bits would be one storage.
    assertTrue(error > 1e-6, name + ": bf16 was not used");
  }

  @Test
  void aFewStepsLowerTheLossOfAdaptersAndOfAllWeights() {
    Method method = Methods.fineTuning();
    List<StepSequence> sequences = GoldenSteps.of(method);
    for (boolean all : new boolean[] {false, true}) {
      try (Model model = GoldenSteps.model(backend, Dtype.BF16)) {
        if (all) {
          model.trainWeights();
        } else {
          model.addLora(LoraConfig.all(4, 8), 5);
        }
        List<Double> losses = new ArrayList<>();
        try (Trainer trainer =
            new Trainer(model, method, settings(), GoldenSteps.repeated(sequences), null)) {
          trainer.run(report -> losses.add(report.loss()));
        }
        assertTrue(losses.get(7) < losses.get(0) - 0.1, "all " + all + ": " + losses);
      }
    }
  }

  /**
   * An update far below a bf16 step of the weights must not be lost: the fp32 master collects it.
   */
  @Test
  void updatesBelowTheStorageStepAddUp() {
    Method method = Methods.fineTuning();
    List<StepSequence> sequences = GoldenSteps.of(method);
    TrainSettings slow = GoldenSteps.settings(40, 1e-4, 4096, TrainSettings.OnNonFinite.STOP);
    List<Double> losses = new ArrayList<>();
    try (Model model = GoldenSteps.model(backend, Dtype.BF16)) {
      model.trainWeights();
      try (Trainer trainer =
          new Trainer(model, method, slow, GoldenSteps.repeated(sequences), null)) {
        trainer.run(report -> losses.add(report.loss()));
      }
    }
    List<Double> wide = new ArrayList<>();
    try (Model model = GoldenSteps.model(backend, Dtype.F32)) {
      model.trainWeights();
      try (Trainer trainer =
          new Trainer(model, method, slow, GoldenSteps.repeated(sequences), null)) {
        trainer.run(report -> wide.add(report.loss()));
      }
    }
    double moved = wide.get(0) - wide.get(39);
    assertTrue(moved > 4 * EPS, "fp32 moved by " + moved);
    assertEquals(moved, losses.get(0) - losses.get(39), 0.1 * moved + EPS, losses.toString());
  }

  @Test
  void greedyAnswersDependOnNeitherSlotsNorNeighbours() {
    List<int[]> prompts = new ArrayList<>();
    GoldenSteps.all().forEach(s -> prompts.add(s.tokens().ids()));
    try (Model model = GoldenSteps.model(backend, Dtype.BF16)) {
      List<int[]> together;
      try (Generator generator = new Generator(model, 5, 40, false)) {
        together = generator.greedy(prompts, 6, Set.of());
      }
      try (Generator generator = new Generator(model, 1, 40, false)) {
        List<int[]> alone = generator.greedy(prompts, 6, Set.of());
        for (int i = 0; i < prompts.size(); i++) {
          assertEquals(6, together.get(i).length);
          assertArrayEquals(alone.get(i), together.get(i), "prompt " + i);
        }
      }
    }
  }
}
