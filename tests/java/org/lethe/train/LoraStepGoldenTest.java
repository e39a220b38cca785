package org.lethe.train;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import com.fasterxml.jackson.databind.JsonNode;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.EnumMap;
import java.util.List;
import java.util.Map;
import java.util.stream.Stream;
import java.util.stream.StreamSupport;
import org.junit.jupiter.api.AfterAll;
import org.junit.jupiter.api.BeforeAll;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.TestInstance;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.MethodSource;
import org.lethe.TestDevice;
import org.lethe.UserException;
import org.lethe.checkpoint.AdapterDirectory;
import org.lethe.checkpoint.ModelDirectory;
import org.lethe.checkpoint.SafetensorsFile;
import org.lethe.data.TokenSequence;
import org.lethe.kernels.Backend;
import org.lethe.kernels.Dtype;
import org.lethe.kernels.Ops;
import org.lethe.method.EntropyDirection;
import org.lethe.method.Method;
import org.lethe.method.MethodConfig;
import org.lethe.method.Methods;
import org.lethe.method.Role;
import org.lethe.model.Goldens;
import org.lethe.model.GradientReader;
import org.lethe.model.LoraConfig;
import org.lethe.model.Model;
import org.lethe.model.WeightPlacement;

/**
 * Every method's loss and adapter gradients against torch and PEFT, with random non-zero A and B.
 */
@TestInstance(TestInstance.Lifecycle.PER_CLASS)
class LoraStepGoldenTest {
  // The project's bound for fp32 against fp64, per tensor.
  private static final double TOLERANCE = 1e-5;

  private Backend backend;
  private Model model;
  private SafetensorsFile gradients;
  private List<StepSequence> sequences;

  @BeforeAll
  void load() {
    backend = TestDevice.open(2);
    model = model(AdapterDirectory.config(Goldens.path("llama-tiny/adapter")));
    AdapterDirectory.load(model, Goldens.path("llama-tiny/adapter"), true);
    gradients = SafetensorsFile.open(Goldens.path("llama-tiny/lora_gradients.safetensors"));
    sequences = new ArrayList<>();
    for (JsonNode s : Goldens.json("llama-tiny/lora_step.json").get("sequences")) {
      int[] ids =
          StreamSupport.stream(s.get("ids").spliterator(), false)
              .mapToInt(JsonNode::asInt)
              .toArray();
      sequences.add(
          new StepSequence(
              Role.valueOf(s.get("role").asText()),
              s.get("pair").asInt(),
              new TokenSequence(ids, s.get("answerStart").asInt()),
              "golden"));
    }
  }

  /** With room for these adapters, where the device wants it. */
  private Model model(LoraConfig... adapters) {
    Ops ops = new Ops(backend, Dtype.F32);
    Path path = Goldens.path("llama-tiny");
    return ModelDirectory.load(ops, path, 64, WeightPlacement.PLAIN, List.of(adapters));
  }

  @AfterAll
  void close() {
    gradients.close();
    model.close();
    backend.close();
  }

  static Stream<JsonNode> combinations() {
    return StreamSupport.stream(
        Goldens.json("llama-tiny/lora_step.json").get("combinations").spliterator(), false);
  }

  private static Method method(JsonNode combination) {
    String forget = combination.get("forget").asText();
    String retain = combination.get("retain").asText();
    MethodConfig config =
        MethodConfig.of(
                forget.replaceAll("(_REVERSE)?(\\..*)?$", "")
                    + "+"
                    + retain.replaceAll("\\..*$", ""))
            .withBeta(combination.get("beta").asDouble())
            .withCoefficients(
                combination.get("forgetCoefficient").asDouble(),
                combination.get("retainCoefficient").asDouble());
    if (forget.contains("_REVERSE")) {
      config = config.withDirection(EntropyDirection.MODEL_TO_UNIFORM);
    }
    if (forget.contains(".")) {
      config = config.withForget("positions", forget.substring(forget.indexOf('.') + 1));
    }
    if (retain.contains(".")) {
      config = config.withRetain("positions", retain.substring(retain.indexOf('.') + 1));
    }
    return Methods.create(config);
  }

  private List<StepSequence> sequencesOf(Method method) {
    Map<Role, Boolean> used = new EnumMap<>(Role.class);
    method.uses().forEach(use -> used.put(use.role(), true));
    return sequences.stream().filter(s -> used.containsKey(s.role())).toList();
  }

  private static TrainSettings settings() {
    return TrainSettings.of(1, 1e-3, Schedule.CONSTANT, 0);
  }

  /** The smallest pieces the step can be cut into. */
  private int largestPair(Method method) {
    TrainSettings s = settings();
    TrainSettings smallest =
        new TrainSettings(
            s.steps(),
            s.learningRate(),
            s.schedule(),
            s.warmupSteps(),
            s.beta1(),
            s.beta2(),
            s.eps(),
            s.weightDecay(),
            s.maxGradientNorm(),
            1,
            s.onNonFinite());
    return StepSizing.largestPiece(method, smallest, null, List.of(sequencesOf(method)));
  }

  @ParameterizedTest
  @MethodSource("combinations")
  void lossAndGradientsAreThoseOfTorch(JsonNode combination) {
    Method method = method(combination);
    // Whole, and in pieces of about a pair, with the reference in the batch: the numbers may not
    // show the cut, nor what sequences share.
    for (int piece : new int[] {4096, largestPair(method)}) {
      assertThoseOfTorch(combination, method, settings(), piece);
    }
    assertThoseOfTorch(combination, method, sharing(), 4096);
  }

  private static TrainSettings sharing() {
    return settings().with(TrainSettings.SharedPrefixes.ON);
  }

  private void assertThoseOfTorch(JsonNode combination, Method method, TrainSettings s, int piece) {
    String name = combination.get("name").asText();
    try (Step step = new Step(model, method, s, null, piece)) {
      Step.Gradients result = step.gradients(sequencesOf(method));
      double loss = combination.get("loss").asDouble();
      assertEquals(loss, result.loss(), TOLERANCE * Math.max(1, Math.abs(loss)), name);
      for (Map.Entry<String, JsonNode> term : combination.get("terms").properties()) {
        String part = term.getKey().replaceAll("(_REVERSE)?(\\..*)?$", "");
        double expected = term.getValue().asDouble();
        double scale = Math.max(1, Math.abs(expected));
        assertEquals(expected, result.parts().get(part), TOLERANCE * scale, name);
      }
      assertTrue(piece == 4096 || result.microBatches() > 1);
      GradientReader.assertGradients(
          gradients, model.trainable(), name + "/", n -> "base_model.model." + n, TOLERANCE);
    }
  }

  @Test
  void stepZeroOfNpoAndDpoIsExact() {
    LoraConfig lora = LoraConfig.all(4, 8);
    try (Model fresh = model(lora)) {
      fresh.addLora(lora, 7);
      for (String name : List.of("NPO", "DPO")) {
        for (double beta : new double[] {0.1, 0.5, 2.5}) {
          Method method = Methods.create(MethodConfig.of(name).withBeta(beta));
          for (TrainSettings s : List.of(settings(), sharing())) {
            for (int piece : new int[] {4096, largestPair(method)}) {
              try (Step step = new Step(fresh, method, s, null, piece)) {
                double loss = step.gradients(sequencesOf(method)).loss();
                assertEquals(2 / beta * StrictMath.log(2), loss, name + " beta " + beta);
              }
            }
          }
        }
      }
    }
  }

  @Test
  void trainingWithoutAdaptersIsRefusedForAMethodWithAReference() {
    try (Model full = model()) {
      Method npo = Methods.create(MethodConfig.of("NPO+GD"));
      assertThrows(UserException.class, () -> new Step(full, npo, settings(), null, 64));
      full.trainWeights();
      UserException e =
          assertThrows(UserException.class, () -> new Step(full, npo, settings(), null, 64));
      assertTrue(e.getMessage().contains("train adapters"), e.getMessage());
    }
  }
}
