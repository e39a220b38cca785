package org.lethe.train;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import com.fasterxml.jackson.databind.JsonNode;
import java.util.ArrayList;
import java.util.List;
import java.util.Set;
import java.util.stream.Collectors;
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
import org.lethe.method.Method;
import org.lethe.method.MethodConfig;
import org.lethe.method.Methods;
import org.lethe.method.Positions;
import org.lethe.method.Role;
import org.lethe.method.Use;
import org.lethe.model.Goldens;
import org.lethe.model.GradientReader;
import org.lethe.model.Model;

/**
 * Steps with the quirks of published code, against that code's own arithmetic on padded batches in
 * float64 ({@code tests/oracle/make_parity.py}).
 */
@TestInstance(TestInstance.Lifecycle.PER_CLASS)
class ParityTest {
  // The project's bound for fp32 against fp64, per tensor.
  private static final double TOLERANCE = 1e-5;
  private static final int END = 2;
  private static final Padding CLOSER_LOOK = new Padding(Padding.Kind.CLOSER_LOOK, 20, END);
  private static final Padding OPEN_UNLEARNING = new Padding(Padding.Kind.OPEN_UNLEARNING, 0, END);

  private Backend backend;
  private Model model;
  private SafetensorsFile gradients;
  private List<StepSequence> sequences;

  @BeforeAll
  void load() {
    backend = TestDevice.open(2);
    model = ModelDirectory.load(new Ops(backend, Dtype.F32), Goldens.path("llama-tiny"), 64);
    AdapterDirectory.load(model, Goldens.path("llama-tiny/adapter"), true);
    gradients = SafetensorsFile.open(Goldens.path("llama-tiny/parity_gradients.safetensors"));
    sequences = new ArrayList<>();
    for (JsonNode s : golden().get("sequences")) {
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

  @AfterAll
  void close() {
    gradients.close();
    model.close();
    backend.close();
  }

  private static JsonNode golden() {
    return Goldens.json("llama-tiny/parity.json");
  }

  static Stream<JsonNode> cases() {
    return StreamSupport.stream(golden().get("cases").spliterator(), false);
  }

  private static Method method(String name) {
    MethodConfig config = MethodConfig.of(name.startsWith("ME+GD") ? "ME+GD" : name);
    return Methods.create(
        switch (name) {
          case "ME+GD", "ME+GD;epsilon" ->
              config
                  .withForget("positions", "all")
                  .withForget("epsilon", name.equals("ME+GD") ? 1e-12 : 0.01)
                  .withCoefficients(0.1, 1);
          case "UNDIAL+GD" -> config.withForget("positions", "all").withCoefficients(1, 1);
          case "NPO+KL" -> config.withRetain("positions", "every").withCoefficients(1, 1);
          default -> config.withCoefficients(1, 1);
        });
  }

  private List<StepSequence> of(Method method) {
    Set<Role> roles = method.uses().stream().map(Use::role).collect(Collectors.toSet());
    return sequences.stream().filter(s -> roles.contains(s.role())).toList();
  }

  private static TrainSettings settings(int rows, Padding padding) {
    return TrainSettings.of(1, 1e-3, Schedule.CONSTANT, 0).with(new Parity(rows, padding));
  }

  @ParameterizedTest
  @MethodSource("cases")
  void lossAndGradientsAreThoseOfThePublishedCode(JsonNode golden) {
    String name = golden.get("case").asText();
    Method method = method(name.substring(name.indexOf('/') + 1));
    Padding padding = name.startsWith("closer_look/") ? CLOSER_LOOK : OPEN_UNLEARNING;
    assertEquals(padding.length(), golden.get("length").asInt());
    TrainSettings settings = settings(golden.get("rows").asInt(), padding);
    int pair =
        StepSizing.largestPiece(
            method, settings.withTokensPerMicroBatch(1), null, List.of(of(method)));
    // Whole micro-batches, and cut into pieces of a pair, which may not show.
    for (int piece : new int[] {4096, pair}) {
      try (Step step = new Step(model, method, settings, null, piece)) {
        Step.Gradients result = step.gradients(of(method));
        double loss = golden.get("loss").asDouble();
        assertEquals(loss, result.loss(), TOLERANCE * Math.max(1, Math.abs(loss)), name);
        assertTrue(piece == 4096 || result.microBatches() > 2, name);
        GradientReader.assertGradients(
            gradients, model.trainable(), name + "/", n -> "base_model.model." + n, TOLERANCE);
      }
    }
  }

  /** Each quirk changes the loss, so that none is met by chance. */
  @ParameterizedTest
  @MethodSource("cases")
  void withoutTheQuirksTheLossIsAnother(JsonNode golden) {
    String name = golden.get("case").asText();
    Method method = method(name.substring(name.indexOf('/') + 1));
    Padding padding = name.startsWith("closer_look/") ? CLOSER_LOOK : OPEN_UNLEARNING;
    double published = golden.get("loss").asDouble();
    List<TrainSettings> others = new ArrayList<>();
    if (!name.equals("closer_look/NPO+KL")) {
      // Means over sequences and over rows of one length do not depend on how they are grouped.
      others.add(settings(0, padding));
    }
    if (!name.equals("closer_look/IDK+AP")) {
      // Answer losses alone see no padding in closer-look's rows.
      others.add(settings(2, Padding.NONE));
    }
    for (TrainSettings other : others) {
      try (Step step = new Step(model, method, other, null, 4096)) {
        double loss = step.gradients(of(method)).loss();
        assertTrue(Math.abs(loss - published) > 1e-3, name + " " + other.parity() + " " + loss);
      }
    }
  }

  @Test
  void everyCaseIsInTheGolden() {
    assertEquals(7, cases().count());
  }

  @Test
  void paddingCountsInWholeRowsAlone() {
    TokenSequence tokens = new TokenSequence(new int[] {1, 9, END, 8, 7, END}, 3);
    assertEquals(19, CLOSER_LOOK.rows(Positions.ALL, tokens, 20).length);
    assertEquals(20, CLOSER_LOOK.rows(Positions.EVERY, tokens, 20).length);
    assertEquals(3, CLOSER_LOOK.rows(Positions.ANSWER, tokens, 20).length);
    // closer-look's mask is that of its tokenizer, open-unlearning's leaves out every end token.
    assertEquals(5, CLOSER_LOOK.attending(tokens).length);
    assertEquals(4, OPEN_UNLEARNING.attending(tokens).length);
    assertEquals(6, Padding.NONE.attending(tokens).length);
    assertEquals(END, CLOSER_LOOK.label(tokens, 12, true, 101));
    // A label of -100 counts from the end of the vocabulary, in the prompt and in the padding.
    assertEquals(1, OPEN_UNLEARNING.label(tokens, 0, true, 101));
    assertEquals(8, OPEN_UNLEARNING.label(tokens, 2, true, 101));
    assertEquals(END, OPEN_UNLEARNING.label(tokens, 4, true, 101));
    assertEquals(1, OPEN_UNLEARNING.label(tokens, 5, true, 101));
    assertEquals(9, OPEN_UNLEARNING.label(tokens, 0, false, 101));
  }

  @Test
  void whatDoesNotFitIsRefused() {
    UserException e =
        assertThrows(UserException.class, () -> new Padding(Padding.Kind.CLOSER_LOOK, 0, END));
    assertTrue(e.getMessage().contains("500"), e.getMessage());
    Method method = method("ME+GD");
    TrainSettings small = settings(2, new Padding(Padding.Kind.CLOSER_LOOK, 10, END));
    try (Step step = new Step(model, method, small, null, 4096)) {
      e = assertThrows(UserException.class, () -> step.gradients(of(method)));
      assertTrue(e.getMessage().contains("data.context_length=10"), e.getMessage());
    }
    assertThrows(UserException.class, () -> new Parity(-1, Padding.NONE));
    e =
        assertThrows(
            UserException.class,
            () -> new Step(model, method, settings(2, CLOSER_LOOK), null, 99, Sharding.local(2)));
    assertTrue(e.getMessage().contains("train.shards=1"), e.getMessage());
  }
}
