package org.lethe.model;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import com.fasterxml.jackson.databind.JsonNode;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Set;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.ValueSource;
import org.lethe.TestDevice;
import org.lethe.checkpoint.AdapterDirectory;
import org.lethe.checkpoint.ModelDirectory;
import org.lethe.checkpoint.SafetensorsFile;
import org.lethe.data.TokenSequence;
import org.lethe.kernels.Backend;
import org.lethe.kernels.Buffer;
import org.lethe.kernels.Dtype;
import org.lethe.kernels.Ops;
import org.lethe.kernels.Staging;
import org.lethe.method.Methods;
import org.lethe.method.Positions;
import org.lethe.method.Role;
import org.lethe.train.Schedule;
import org.lethe.train.Scorer;
import org.lethe.train.Step;
import org.lethe.train.StepReport;
import org.lethe.train.StepSequence;
import org.lethe.train.TrainSettings;

/**
 * The model against transformers and torch: likelihoods, gradients of every weight, AdamW steps,
 * greedy decoding.
 */
class LlamaGoldenTest {
  // The project's bound for fp32 against fp64: 1e-5 of a tensor's norm (fp32 eps 6e-8 times some
  // hundred terms a sum).
  private static final double GRADIENT_TOLERANCE = 1e-5;
  // One AdamW step divides by sqrt(v): where a gradient is within rounding of 0 its step of ±lr is
  // decided by rounding.
  private static final double MOVEMENT_TOLERANCE = 1e-3;
  private static final double NLL_TOLERANCE = 2e-5;

  private static Model load(Backend backend, String name) {
    return ModelDirectory.load(new Ops(backend, Dtype.F32), Goldens.path(name), 64);
  }

  private static List<TokenSequence> sequences(SafetensorsFile file) {
    return Goldens.split(Goldens.ints(file, "ids"), Goldens.ints(file, "lengths")).stream()
        .map(ids -> new TokenSequence(ids, 1))
        .toList();
  }

  @ParameterizedTest
  @ValueSource(strings = {"llama-tiny", "llama-tiny-tied"})
  void tokenLossesAreThoseOfTransformers(String name) {
    try (Backend backend = TestDevice.open(2);
        Model model = load(backend, name);
        SafetensorsFile golden =
            SafetensorsFile.open(Goldens.path(name + "/forward.safetensors"))) {
      assertNlls(model, golden, sequences(golden), false);
    }
  }

  @Test
  void tokenLossesWithAnAdapterAreThoseOfPeft() {
    try (Backend backend = TestDevice.open(2);
        Model model = load(backend, "llama-tiny");
        SafetensorsFile base =
            SafetensorsFile.open(Goldens.path("llama-tiny/forward.safetensors"));
        SafetensorsFile golden =
            SafetensorsFile.open(Goldens.path("llama-tiny/lora_forward.safetensors"))) {
      AdapterDirectory.load(model, Goldens.path("llama-tiny/adapter"), false);
      assertNlls(model, golden, sequences(base), true);
      assertNlls(model, base, sequences(base), false);
    }
  }

  private static void assertNlls(
      Model model, SafetensorsFile golden, List<TokenSequence> sequences, boolean adapted) {
    float[] nll = Goldens.floats(golden, "nll");
    try (Scorer scorer = Scorer.forSequences(model, sequences, adapted)) {
      List<Scorer.Score> scores = scorer.score(sequences, Positions.ALL);
      int next = 0;
      for (int i = 0; i < sequences.size(); i++) {
        int rows = sequences.get(i).ids().length - 1;
        double sum = 0;
        for (int r = 0; r < rows; r++) {
          sum += nll[next++];
        }
        assertEquals(rows, scores.get(i).rows());
        assertEquals(sum, scores.get(i).nll(), NLL_TOLERANCE * rows, "sequence " + i);
      }
      assertEquals(nll.length, next);
    }
  }

  @ParameterizedTest
  @ValueSource(strings = {"llama-tiny", "llama-tiny-tied"})
  void greedyContinuationsAreThoseOfTransformers(String name) {
    try (Backend backend = TestDevice.open(2);
        Model model = load(backend, name);
        SafetensorsFile golden =
            SafetensorsFile.open(Goldens.path(name + "/forward.safetensors"))) {
      List<int[]> prompts = sequences(golden).stream().map(TokenSequence::ids).toList();
      int[] expected = Goldens.ints(golden, "greedy");
      List<int[]> together;
      try (Generator generator = new Generator(model, 3, 40, false)) {
        together = generator.greedy(prompts, 5, Set.of());
      }
      List<Integer> flat = new ArrayList<>();
      together.forEach(tokens -> Arrays.stream(tokens).forEach(flat::add));
      assertArrayEquals(expected, flat.stream().mapToInt(Integer::intValue).toArray());
      try (Generator one = new Generator(model, 1, 40, false)) {
        List<int[]> alone = one.greedy(prompts, 5, Set.of());
        for (int i = 0; i < prompts.size(); i++) {
          assertArrayEquals(together.get(i), alone.get(i), "prompt " + i + " alone");
        }
      }
    }
  }

  @ParameterizedTest
  @ValueSource(strings = {"llama-tiny", "llama-tiny-tied"})
  void everyWeightsGradientAndThreeAdamWStepsAreThoseOfTorch(String name) {
    JsonNode run = Goldens.json(name + "/full_gradients.json");
    TrainSettings settings =
        new TrainSettings(
            3,
            1e-3,
            Schedule.CONSTANT,
            0,
            0.9,
            0.999,
            1e-8,
            0.01,
            1,
            4096,
            TrainSettings.OnNonFinite.STOP);
    try (Backend backend = TestDevice.open(2);
        Model model = load(backend, name);
        SafetensorsFile forward =
            SafetensorsFile.open(Goldens.path(name + "/forward.safetensors"));
        SafetensorsFile golden =
            SafetensorsFile.open(Goldens.path(name + "/full_gradients.safetensors"))) {
      Trainable trainable = model.trainWeights();
      Map<String, float[]> before = parameters(trainable, trainable.layout());
      List<StepSequence> step = new ArrayList<>();
      for (TokenSequence s : sequences(forward)) {
        step.add(new StepSequence(Role.RETAIN, step.size(), s, "golden"));
      }
      // 20 tokens a piece: 5, 17 and 11 tokens go in two or three, and nothing may show it.
      try (Step training = new Step(model, Methods.fineTuning(), settings, null, 20)) {
        for (int i = 0; i < 3; i++) {
          StepReport report = training.run(i, step, 1e-3);
          double loss = run.get("losses").get(i).asDouble();
          double norm = run.get("gradientNorms").get(i).asDouble();
          // The second and third loss follow updates that differ by the movement's tolerance.
          assertEquals(loss, report.loss(), (i == 0 ? 1e-6 : 1e-4) * loss);
          assertEquals(norm, report.gradientNorm(), (i == 0 ? 1e-6 : 1e-3) * norm);
          assertTrue(report.microBatches() > 1);
          if (i == 0) {
            GradientReader.assertGradients(
                golden, trainable, "gradient/", n -> n, GRADIENT_TOLERANCE);
          }
        }
      }
      Map<String, float[]> after = parameters(trainable, trainable.layout());
      int compared = 0;
      for (String key : golden.names()) {
        if (key.startsWith("after/")) {
          String parameter = key.substring("after/".length());
          float[] expected = Goldens.floats(golden, key);
          double moved = Goldens.distance(expected, before.get(parameter));
          double error = Goldens.distance(after.get(parameter), expected) / moved;
          assertTrue(error <= MOVEMENT_TOLERANCE, parameter + " moved with an error of " + error);
          compared++;
        }
      }
      assertTrue(compared > 5, "only " + compared + " parameters were compared");
    }
  }

  private static Map<String, float[]> parameters(Trainable trainable, Layout layout) {
    Map<String, float[]> values = new HashMap<>();
    Ops ops = trainable.ops();
    try (Buffer copy = ops.backend().allocate(layout.elements() * Float.BYTES);
        Staging staging = new Staging(Math.toIntExact(layout.elements() * Float.BYTES))) {
      ops.copy(copy.at(0), trainable.master(), layout.elements() * Float.BYTES);
      for (Parameter p : layout.parameters().values()) {
        float[] tensor = new float[Math.toIntExact(p.elements())];
        staging.download(copy, p.offset() * Float.BYTES, tensor, tensor.length);
        values.put(p.name(), tensor);
      }
    }
    return values;
  }
}
