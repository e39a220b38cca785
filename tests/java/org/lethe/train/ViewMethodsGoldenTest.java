package org.lethe.train;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import com.fasterxml.jackson.databind.JsonNode;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.stream.Stream;
import java.util.stream.StreamSupport;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.MethodSource;
import org.lethe.TestDevice;
import org.lethe.UserException;
import org.lethe.checkpoint.AdapterDirectory;
import org.lethe.checkpoint.ModelDirectory;
import org.lethe.checkpoint.SafetensorsFile;
import org.lethe.data.Counterpart;
import org.lethe.data.TokenSequence;
import org.lethe.kernels.Backend;
import org.lethe.kernels.Dtype;
import org.lethe.kernels.HeadOps;
import org.lethe.kernels.Ops;
import org.lethe.method.Method;
import org.lethe.method.MethodConfig;
import org.lethe.method.Methods;
import org.lethe.method.Role;
import org.lethe.model.Generator;
import org.lethe.model.Goldens;
import org.lethe.model.GradientReader;
import org.lethe.model.Mixture;
import org.lethe.model.Model;
import org.lethe.model.View;

/** KGA, Who's Harry Potter and Quark against torch: losses, and gradients of A and B. */
class ViewMethodsGoldenTest {
  // The project's bound for fp32 against fp64, per tensor.
  private static final double TOLERANCE = 1e-5;
  private static final JsonNode GOLDEN = Goldens.json("views/methods.json");

  private Backend backend;
  private Model model;
  private SafetensorsFile gradients;

  @BeforeEach
  void load() {
    backend = TestDevice.open(2);
    model = ModelDirectory.load(new Ops(backend, Dtype.F32), Goldens.path("llama-tiny"), 64);
    JsonNode adapters = Goldens.json("views/views.json").get("adapters");
    View second = null;
    View first = null;
    for (Map.Entry<String, JsonNode> e : adapters.properties()) {
      View view =
          View.of(
              AdapterDirectory.loadFrozen(model, e.getKey(), Goldens.path(e.getValue().asText())));
      model.name(e.getKey(), view);
      first = e.getKey().equals("first") ? view : first;
      second = e.getKey().equals("second") ? view : second;
    }
    model.name("near", first.plus(second.adapters().get(0).adapter(), 0.1));
    AdapterDirectory.load(model, Goldens.path("llama-tiny/adapter"), true);
    gradients = SafetensorsFile.open(Goldens.path("views/methods.safetensors"));
  }

  @AfterEach
  void close() {
    gradients.close();
    model.close();
    backend.close();
  }

  static Stream<JsonNode> cases() {
    return StreamSupport.stream(GOLDEN.get("cases").spliterator(), false);
  }

  private static int[] ints(JsonNode node) {
    return StreamSupport.stream(node.spliterator(), false).mapToInt(JsonNode::asInt).toArray();
  }

  private static List<StepSequence> sequences(JsonNode golden) {
    List<StepSequence> sequences = new ArrayList<>();
    for (JsonNode s : golden.get("sequences")) {
      StepSequence made =
          new StepSequence(
              Role.valueOf(s.get("role").asText()),
              s.get("pair").asInt(),
              new TokenSequence(ints(s.get("ids")), s.get("answerStart").asInt()),
              "golden");
      sequences.add(
          s.has("reference")
              ? made.with(new Counterpart(ints(s.get("reference")), ints(s.get("map"))))
              : made);
    }
    return sequences;
  }

  private static TrainSettings settings() {
    return TrainSettings.of(1, 1e-3, Schedule.CONSTANT, 0);
  }

  @ParameterizedTest
  @MethodSource("cases")
  void lossAndGradientsAreThoseOfTorch(JsonNode golden) {
    String name = golden.get("name").asText();
    MethodConfig config = MethodConfig.of(golden.get("method").asText() + "+none");
    for (Map.Entry<String, JsonNode> o : golden.get("options").properties()) {
      config = config.withForget(o.getKey(), o.getValue().asText());
    }
    for (Map.Entry<String, JsonNode> v : golden.get("views").properties()) {
      model.name(v.getKey(), model.view(v.getValue().asText()));
    }
    Method method = Methods.create(config);
    List<StepSequence> step = sequences(golden);
    if (name.equals("WHP.hard")) {
      step = HardTargets.label(model, step, GOLDEN.get("whpAlpha").asDouble(), true);
    }
    // Whole, and in pieces: the numbers may not show the cut.
    TrainSettings tiny = GoldenSteps.settings(1, 1e-3, 1, TrainSettings.OnNonFinite.STOP);
    int pair = StepSizing.largestPiece(method, tiny, null, List.of(step));
    for (int piece : new int[] {4096, pair}) {
      try (Step training = new Step(model, method, settings(), null, piece)) {
        Step.Gradients found = training.gradients(step);
        double loss = golden.get("loss").asDouble();
        assertEquals(loss, found.loss(), TOLERANCE * Math.max(1, Math.abs(loss)), name);
        for (Map.Entry<String, JsonNode> term : golden.get("terms").properties()) {
          if (found.parts().containsKey(term.getKey())) {
            double value = term.getValue().asDouble();
            assertEquals(
                value, found.parts().get(term.getKey()), TOLERANCE * Math.max(1, value), name);
          }
        }
        GradientReader.assertGradients(
            gradients, model.trainable(), name + "/", n -> "base_model.model." + n, TOLERANCE);
        assertTrue(piece == 4096 || found.microBatches() > 1, name);
      }
    }
  }

  @Test
  void aMixtureIsDecodedAsTorchDoes() {
    JsonNode golden = GOLDEN.get("greedy");
    View other = model.view(golden.get("reinforced").asText());
    for (JsonNode d : golden.get("decoded")) {
      Mixture mixture = new Mixture(View.BASE, other, d.get("alpha").asDouble());
      int[] expected = ints(d.get("tokens"));
      // Two prompts in three slots: what one says must not depend on the other.
      List<int[]> prompts = List.of(ints(d.get("prompt")), new int[] {1, 7, 9});
      try (Generator generator = new Generator(model, 3, 40, mixture)) {
        List<int[]> found = generator.greedy(prompts, expected.length, Set.of());
        assertArrayEquals(expected, found.get(0), d.toString());
        assertThrows(
            UserException.class,
            () -> generator.sample(prompts, 2, Set.of(), new HeadOps.Sampling(1, 0, 1, 0)));
      }
    }
    assertThrows(UserException.class, () -> new Mixture(View.BASE, other, -1));
  }

  @Test
  void aModelThatIsNotGivenIsNamed() {
    Method kga = Methods.create(MethodConfig.of("KGA+none"));
    UserException e =
        assertThrows(UserException.class, () -> new Step(model, kga, settings(), null, 64));
    assertTrue(e.getMessage().contains("views=[{name: forget, path: DIR}]"), e.getMessage());
  }
}
