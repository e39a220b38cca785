package org.lethe.train;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.util.Arrays;
import java.util.List;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.EnumSource;
import org.junit.jupiter.params.provider.ValueSource;
import org.lethe.TestDevice;
import org.lethe.UserException;
import org.lethe.kernels.Backend;
import org.lethe.kernels.Dtype;
import org.lethe.method.Method;
import org.lethe.method.MethodConfig;
import org.lethe.method.Methods;
import org.lethe.model.Lora;
import org.lethe.model.LoraConfig;
import org.lethe.model.Model;
import org.lethe.model.ParameterNames;

/** A loss or gradient that is not finite updates nothing and names its batch. */
class NonFiniteTest {
  private static final LoraConfig LORA = LoraConfig.all(2, 4);

  private Backend backend;

  @BeforeEach
  void open() {
    backend = TestDevice.open(1);
  }

  @AfterEach
  void close() {
    backend.close();
  }

  private static Method method(String name) {
    return Methods.create(MethodConfig.of(name));
  }

  /** Adapters that train: ordinary values, then {@code value} in one place of one B. */
  private static float[] adapters(Model model, float value) {
    var layout = Lora.layout(model.config(), LORA);
    float[] values = new float[Math.toIntExact(layout.elements())];
    for (int i = 0; i < values.length; i++) {
      values[i] = (float) (0.1 * StrictMath.sin(i + 1.0));
    }
    String name =
        "base_model.model." + ParameterNames.module(1, "mlp.down_proj") + ".lora_B.weight";
    values[Math.toIntExact(layout.parameter(name).offset())] = value;
    return values;
  }

  @ParameterizedTest
  @ValueSource(floats = {Float.POSITIVE_INFINITY, Float.NaN, 3e38f})
  void stopNamesTheBatchAndLeavesEveryParameter(float value) {
    try (Model model = GoldenSteps.model(backend, Dtype.F32)) {
      float[] before = adapters(model, value);
      Lora lora = model.addLora(LORA, before, true);
      List<StepSequence> sequences = GoldenSteps.of(method("ME+GD"));
      TrainSettings settings = GoldenSteps.settings(1, 1e-2, 4096, TrainSettings.OnNonFinite.STOP);
      try (Step step = new Step(model, method("ME+GD"), settings, null, 4096)) {
        UserException e = assertThrows(UserException.class, () -> step.run(3, sequences, 1e-2));
        assertTrue(e.getMessage().startsWith("step 3: the "), e.getMessage());
        assertTrue(e.getMessage().contains(" is not finite; nothing was updated"), e.getMessage());
        sequences.forEach(s -> assertTrue(e.getMessage().contains(s.source()), e.getMessage()));
        assertTrue(e.getMessage().contains("train.learning_rate"), e.getMessage());
      }
      assertArrayEquals(bits(before), bits(lora.values()));
    }
  }

  @ParameterizedTest
  @EnumSource(
      value = Dtype.class,
      names = {"F32", "BF16"})
  void skipCountsTheStepAndLeavesEveryParameter(Dtype dtype) {
    try (Model model = GoldenSteps.model(backend, dtype)) {
      Lora lora = model.addLora(LORA, adapters(model, Float.NaN), true);
      int[] before = bits(lora.values());
      List<StepSequence> sequences = GoldenSteps.of(method("NPO+GD"));
      TrainSettings settings = GoldenSteps.settings(2, 1e-2, 4096, TrainSettings.OnNonFinite.SKIP);
      try (Trainer trainer =
          new Trainer(model, method("NPO+GD"), settings, GoldenSteps.repeated(sequences), null)) {
        while (trainer.hasNext()) {
          StepReport report = trainer.next();
          assertFalse(report.applied());
          assertFalse(Double.isFinite(report.loss()));
        }
      }
      assertArrayEquals(before, bits(lora.values()));
    }
  }

  /**
   * The loss is fine as a double, its coefficients overflow fp32: the update on the device must
   * skip all parameters.
   */
  @Test
  void aGradientAloneThatOverflowsUpdatesNothing() {
    try (Model model = GoldenSteps.model(backend, Dtype.F32)) {
      float[] before = adapters(model, 0.1f);
      Lora lora = model.addLora(LORA, before, true);
      Method huge = Methods.create(MethodConfig.of("ME+GD").withCoefficients(1e42, 1));
      List<StepSequence> sequences = GoldenSteps.of(huge);
      TrainSettings settings = GoldenSteps.settings(1, 1e-2, 4096, TrainSettings.OnNonFinite.STOP);
      try (Step step = new Step(model, huge, settings, null, 4096)) {
        UserException e = assertThrows(UserException.class, () -> step.run(0, sequences, 1e-2));
        assertTrue(e.getMessage().startsWith("step 0: the gradient is not"), e.getMessage());
      }
      assertArrayEquals(bits(before), bits(lora.values()));
    }
  }

  @Test
  void aSkippedStepLeavesNoTraceInTheOptimizer() {
    Method method = method("ME+GD");
    List<StepSequence> sequences = GoldenSteps.of(method);
    Method huge = Methods.create(MethodConfig.of("ME+GD").withCoefficients(1e42, 1));
    TrainSettings skip = GoldenSteps.settings(1, 1e-2, 4096, TrainSettings.OnNonFinite.SKIP);
    float[][] after = new float[2][];
    for (int run = 0; run < 2; run++) {
      try (Model model = GoldenSteps.model(backend, Dtype.F32)) {
        Lora lora = model.addLora(LORA, adapters(model, 0.1f), true);
        try (Step good = new Step(model, method, skip, null, 4096);
            Step bad = new Step(model, huge, skip, null, 4096)) {
          assertTrue(good.run(0, sequences, 1e-2).applied());
          if (run == 1) {
            assertFalse(bad.run(1, sequences, 1e-2).applied());
          }
          assertTrue(good.run(1, sequences, 1e-2).applied());
        }
        after[run] = lora.values();
      }
    }
    assertArrayEquals(bits(after[0]), bits(after[1]));
  }

  @Test
  void everyWeightStaysWhenAllOfThemTrain() {
    try (Model model = GoldenSteps.model(backend, Dtype.F32)) {
      model.trainWeights();
      Method method = Methods.create(MethodConfig.of("none+GD").withCoefficients(0, 1e42));
      List<StepSequence> sequences = GoldenSteps.of(method);
      TrainSettings settings = GoldenSteps.settings(1, 1e-2, 4096, TrainSettings.OnNonFinite.SKIP);
      float[] before = Weights.of(model);
      try (Step step = new Step(model, method, settings, null, 4096)) {
        StepReport report = step.run(0, sequences, 1e-2);
        assertFalse(report.applied());
        assertTrue(Double.isFinite(report.loss()));
      }
      assertArrayEquals(bits(before), bits(Weights.of(model)));
      assertEquals(before.length, model.layout().elements());
    }
  }

  private static int[] bits(float[] values) {
    int[] bits = new int[values.length];
    Arrays.setAll(bits, i -> Float.floatToRawIntBits(values[i]));
    return bits;
  }
}
