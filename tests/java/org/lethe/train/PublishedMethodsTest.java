package org.lethe.train;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import com.fasterxml.jackson.databind.JsonNode;
import java.io.IOException;
import java.io.UncheckedIOException;
import java.nio.channels.FileChannel;
import java.nio.file.Path;
import java.nio.file.StandardOpenOption;
import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.TreeSet;
import java.util.stream.Collectors;
import java.util.stream.Stream;
import java.util.stream.StreamSupport;
import org.junit.jupiter.api.AfterAll;
import org.junit.jupiter.api.BeforeAll;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.TestInstance;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.MethodSource;
import org.lethe.TestDevice;
import org.lethe.checkpoint.AdapterDirectory;
import org.lethe.checkpoint.SafetensorsFile;
import org.lethe.checkpoint.TrainingState;
import org.lethe.data.TokenSequence;
import org.lethe.kernels.Backend;
import org.lethe.kernels.Dtype;
import org.lethe.method.Accumulator;
import org.lethe.method.Loss;
import org.lethe.method.Measured;
import org.lethe.method.Method;
import org.lethe.method.MethodConfig;
import org.lethe.method.Methods;
import org.lethe.method.Observed;
import org.lethe.method.Role;
import org.lethe.method.Setting;
import org.lethe.method.Side;
import org.lethe.method.Totals;
import org.lethe.method.Use;
import org.lethe.method.Weighted;
import org.lethe.model.Goldens;
import org.lethe.model.GradientReader;
import org.lethe.model.Model;

/**
 * Every loss with a published implementation against torch: its value, its gradients, and where
 * twenty steps of AdamW lead. A and B are random and non-zero, the lengths unequal.
 */
@TestInstance(TestInstance.Lifecycle.PER_CLASS)
class PublishedMethodsTest {
  // The project's bounds, per tensor: fp32 against fp64, at once and after twenty steps.
  private static final double TOLERANCE = 1e-5;
  private static final double MOVEMENT = 1e-3;

  private static final String PEFT = "base_model.model.";
  private static final String MASTER = "master/" + PEFT;
  private static final JsonNode GOLDEN = Goldens.json("methods/methods.json");

  @TempDir Path dir;
  private Backend backend;
  private SafetensorsFile gradients;
  private SafetensorsFile movement;

  @BeforeAll
  void open() {
    backend = TestDevice.open(2);
    gradients = SafetensorsFile.open(Goldens.path("methods/gradients.safetensors"));
    movement = SafetensorsFile.open(Goldens.path("methods/movement.safetensors"));
  }

  @AfterAll
  void close() {
    movement.close();
    gradients.close();
    backend.close();
  }

  static Stream<JsonNode> cases() {
    return StreamSupport.stream(GOLDEN.get("cases").spliterator(), false);
  }

  private static Method method(JsonNode c) {
    MethodConfig config =
        MethodConfig.of(c.get("forget").asText() + "+" + c.get("retain").asText())
            .withCoefficients(1, 1);
    for (Map.Entry<String, JsonNode> o : c.get("forgetOptions").properties()) {
      config = config.with(Side.FORGET, o.getKey(), Setting.of(o.getValue().asText()));
    }
    for (Map.Entry<String, JsonNode> o : c.get("retainOptions").properties()) {
      config = config.with(Side.RETAIN, o.getKey(), Setting.of(o.getValue().asText()));
    }
    return Methods.create(config);
  }

  private static List<StepSequence> sequences(Method method) {
    Set<Role> roles = method.uses().stream().map(Use::role).collect(Collectors.toSet());
    List<StepSequence> sequences = new ArrayList<>();
    for (JsonNode s : GOLDEN.get("sequences")) {
      Role role = Role.valueOf(s.get("role").asText());
      if (roles.contains(role)) {
        int[] ids =
            StreamSupport.stream(s.get("ids").spliterator(), false)
                .mapToInt(JsonNode::asInt)
                .toArray();
        List<TokenSequence.Span> spans = new ArrayList<>();
        s.path("spans")
            .forEach(p -> spans.add(new TokenSequence.Span(p.get(0).asInt(), p.get(1).asInt())));
        TokenSequence tokens = new TokenSequence(ids, s.get("answerStart").asInt(), spans);
        sequences.add(new StepSequence(role, s.get("pair").asInt(), tokens, "golden"));
      }
    }
    return sequences;
  }

  private static TrainSettings settings(int tokens) {
    return new TrainSettings(
        GOLDEN.get("training").get("steps").asInt(),
        GOLDEN.get("training").get("learningRate").asDouble(),
        Schedule.CONSTANT,
        0,
        0.9,
        0.999,
        1e-8,
        GOLDEN.get("training").get("weightDecay").asDouble(),
        0,
        tokens,
        TrainSettings.OnNonFinite.STOP);
  }

  private Model model() {
    Model model = GoldenSteps.model(backend, Dtype.F32);
    AdapterDirectory.load(model, Goldens.path("llama-tiny/adapter"), true);
    return model;
  }

  @ParameterizedTest
  @MethodSource("cases")
  void lossAndGradientsAreThoseOfTorch(JsonNode c) {
    Method method = method(c);
    String name = c.get("name").asText();
    // Whole, and in the smallest pieces there are: the numbers may not show the cut.
    for (int tokens : new int[] {4096, 1}) {
      TrainSettings settings = settings(tokens);
      int piece = StepSizing.largestPiece(method, settings, null, List.of(sequences(method)));
      try (Model model = model();
          Step step = new Step(model, method, settings, null, piece)) {
        Step.Gradients result = step.gradients(sequences(method));
        double loss = c.get("loss").asDouble();
        double size =
            method.losses().stream()
                .mapToDouble(p -> p.weight() * Math.abs(result.parts().get(p.loss().name())))
                .sum();
        assertEquals(loss, result.loss(), TOLERANCE * size, name);
        assertTrue(tokens > 1 || result.microBatches() > 1, name);
        double tolerance = sensitivity(c) * TOLERANCE;
        GradientReader.assertGradients(
            gradients, model.trainable(), name + "/", n -> PEFT + n, tolerance);
      }
    }
  }

  /**
   * How many times an error of log p counts: once in a gradient, and, where rows weigh p^β, another
   * β times in each row's weight. fp32 logits alone take SatImp, with its β of 5, from 2e-6 to
   * 1.2e-5 as sums are ordered one way or another.
   */
  private static double sensitivity(JsonNode c) {
    return 1 + c.path("forgetOptions").path("beta1").asDouble(0);
  }

  @ParameterizedTest
  @MethodSource("cases")
  void twentyStepsLeadWhereTorchsLead(JsonNode c) {
    Method method = method(c);
    String name = c.get("name").asText();
    TrainSettings settings = settings(4096);
    try (Model model = model();
        Trainer trainer =
            new Trainer(model, method, settings, GoldenSteps.repeated(sequences(method)), null)) {
      Map<String, float[]> before = parameters(model);
      trainer.run(report -> {});
      Map<String, float[]> after = parameters(model);
      List<String> tensors = names(name);
      assertTrue(tensors.size() >= 6, name);
      for (String tensor : tensors) {
        float[] expected = Goldens.floats(movement, name + "/" + tensor);
        double difference = 0;
        double size = 0;
        for (int i = 0; i < expected.length; i++) {
          double moved = (double) after.get(tensor)[i] - before.get(tensor)[i];
          difference += Math.pow(moved - expected[i], 2);
          size += Math.pow(expected[i], 2);
        }
        double error = Math.sqrt(difference / size);
        assertTrue(error <= MOVEMENT, name + " " + tensor + " moved off by " + error);
      }
    }
  }

  /** What trains, by the goldens' names. */
  private Map<String, float[]> parameters(Model model) {
    Path file = dir.resolve("state.safetensors");
    try (FileChannel channel =
        FileChannel.open(
            file,
            StandardOpenOption.CREATE,
            StandardOpenOption.TRUNCATE_EXISTING,
            StandardOpenOption.WRITE)) {
      TrainingState.write(model.trainable(), channel);
    } catch (IOException e) {
      throw new UncheckedIOException(e);
    }
    Map<String, float[]> values = new LinkedHashMap<>();
    try (SafetensorsFile state = SafetensorsFile.open(file)) {
      for (String name : state.names()) {
        if (name.startsWith(MASTER)) {
          values.put(name.substring(MASTER.length()), Goldens.floats(state, name));
        }
      }
    }
    return values;
  }

  private List<String> names(String name) {
    return movement.names().stream()
        .filter(n -> n.startsWith(name + "/"))
        .map(n -> n.substring(name.length() + 1))
        .toList();
  }

  /** A loss that pulls the other way. */
  private record Flipped(Loss loss) implements Loss {
    @Override
    public String name() {
      return loss.name();
    }

    @Override
    public List<Use> uses() {
      return loss.uses();
    }

    @Override
    public double scale() {
      return -loss.scale();
    }

    @Override
    public long count(Totals totals) {
      return loss.count(totals);
    }

    @Override
    public void evaluate(Observed seen, Accumulator out) {
      loss.evaluate(seen, out);
    }

    @Override
    public int measures() {
      return loss.measures();
    }

    @Override
    public void measure(Observed seen, Measured out) {
      loss.measure(seen, out);
    }
  }

  @ParameterizedTest
  @MethodSource("cases")
  void aTermOfTheWrongSignIsFound(JsonNode c) {
    Method method = method(c);
    String name = c.get("name").asText();
    for (int flipped = 0; flipped < method.losses().size(); flipped++) {
      List<Weighted> losses = new ArrayList<>(method.losses());
      Weighted part = losses.get(flipped);
      losses.set(flipped, new Weighted(part.weight(), new Flipped(part.loss())));
      Method wrong = new Method(method.name(), losses);
      try (Model model = model();
          Step step = new Step(model, wrong, settings(4096), null, 4096)) {
        step.gradients(sequences(method));
        Map<String, float[]> found = GradientReader.gradients(model.trainable());
        for (String tensor : names(name)) {
          float[] expected = Goldens.floats(gradients, name + "/" + tensor);
          double error = Goldens.relativeError(found.get(PEFT + tensor), expected);
          assertTrue(error > 1e3 * TOLERANCE, name + " " + part.loss().name() + " " + error);
        }
      }
    }
  }

  @Test
  void everyPublishedLossIsHere() {
    Set<String> here = new TreeSet<>();
    cases().forEach(c -> here.addAll(List.of(c.get("forget").asText(), c.get("retain").asText())));
    // Those of LoraStepGoldenTest, and those that compare views of a model.
    here.addAll(List.of("NPO", "DPO", "IDK", "ME", "AP", "KGA", "WHP", "Quark"));
    here.remove(Methods.NONE);
    Set<String> all = new TreeSet<>();
    Methods.all().forEach(spec -> all.add(spec.name()));
    assertEquals(all, here);
  }
}
