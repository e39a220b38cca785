package org.lethe.train;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.util.ArrayList;
import java.util.List;
import java.util.Random;
import java.util.Set;
import java.util.TreeSet;
import java.util.stream.IntStream;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;
import org.junit.jupiter.params.provider.ValueSource;
import org.lethe.TestDevice;
import org.lethe.UserException;
import org.lethe.data.TokenSequence;
import org.lethe.kernels.Backend;
import org.lethe.kernels.Dtype;
import org.lethe.kernels.Ops;
import org.lethe.kernels.Staging;
import org.lethe.method.Method;
import org.lethe.method.MethodConfig;
import org.lethe.method.Methods;
import org.lethe.method.Role;
import org.lethe.model.LoraConfig;
import org.lethe.model.Model;
import org.lethe.model.ModelConfig;
import org.lethe.model.RandomWeights;
import org.lethe.model.Trainable;
import org.lethe.model.WeightPlacement;

/**
 * Steps whose device work is captured in graphs: the bits of the same pieces op by op, whatever the
 * shapes and however many; and of pieces that are not filled up, but for the order of sums. A CPU
 * has no graphs: there the same is asked of a model whose pieces stay as they are.
 */
class StepGraphsTest {
  private static final int TOKENS = 128;
  private static final ModelConfig TINY =
      ModelConfig.llama(new ModelConfig.Sizes(41, 16, 2, 2, 1, 8, 24, 32), 1e-5f, 10000, true);

  /** A gradient's sums over at most 128 tokens, in another order: n·u, and u of them each. */
  private static final double REORDERED = 2 * 128 * 0x1p-24;

  private Backend backend;

  @BeforeEach
  void open() {
    backend = TestDevice.open(1);
  }

  @AfterEach
  void close() {
    backend.close();
  }

  private static TrainSettings settings(Graphs graphs) {
    return TrainSettings.of(8, 1e-2, Schedule.CONSTANT, 0).with(graphs);
  }

  private Model model(String trains) {
    boolean weights = trains.equals("weights");
    LoraConfig lora = LoraConfig.all(2, 4);
    // With room for them, where the device wants it.
    List<LoraConfig> adapters = weights ? List.of() : List.of(lora);
    RandomWeights source = new RandomWeights(TINY, 1);
    Ops ops = new Ops(backend, Dtype.F32);
    Model model = Model.load(ops, TINY, source, WeightPlacement.PLAIN, adapters);
    if (weights) {
      model.trainWeights();
    } else {
      model.addLora(trains.equals("dropout") ? withDropout(lora) : lora, 3);
    }
    return model;
  }

  private static LoraConfig withDropout(LoraConfig c) {
    return new LoraConfig(
        c.rank(), c.alpha(), false, 0.25, c.targets(), c.rankPattern(), c.alphaPattern());
  }

  /** Two pairs of what a method looks at; of two shapes, and other lengths in each. */
  private static List<StepSequence> batch(Method method, int step) {
    Set<Role> roles = new TreeSet<>();
    method.uses().forEach(use -> roles.add(use.role()));
    Random random = new Random(step);
    List<StepSequence> batch = new ArrayList<>();
    for (int pair = 0; pair < 2; pair++) {
      for (Role role : roles) {
        int length = (step % 2 == 0 ? 4 : 11) + random.nextInt(3);
        int[] ids = random.ints(length, 1, TINY.vocabularySize()).toArray();
        batch.add(new StepSequence(role, pair, new TokenSequence(ids, 2), role + " " + pair));
      }
    }
    return batch;
  }

  private static float[] floats(Trainable trainable, long offset) {
    int n = Math.toIntExact(trainable.layout().elements());
    float[] values = new float[n];
    try (Staging staging = new Staging(n * Float.BYTES)) {
      staging.download(trainable.arena().buffer(), offset, values, n);
    }
    return values;
  }

  private static float[] gradients(Model model) {
    return floats(model.trainable(), model.trainable().gradientsOffset());
  }

  private static double distance(float[] a, float[] b) {
    return Math.sqrt(
        IntStream.range(0, a.length).mapToDouble(i -> Math.pow((double) a[i] - b[i], 2)).sum());
  }

  @ParameterizedTest
  @CsvSource({
    "ME+GD,adapters",
    "NPO+KL,adapters",
    "NPO+KL,dropout",
    "DPO+GD,adapters",
    "ME+GD,weights"
  })
  void graphsHaveTheBitsOfTheirOps(String name, String trains) {
    Method method = Methods.create(MethodConfig.of(name));
    try (Model one = model(trains);
        Model two = model(trains);
        Step captured = new Step(one, method, settings(Graphs.AUTO), null, TOKENS);
        Step eager = new Step(two, method, settings(Graphs.AUTO), null, TOKENS)) {
      for (int i = 0; i < 6; i++) {
        eager.graphs().forget();
        StepReport expected = eager.run(i, batch(method, i), 1e-2);
        StepReport report = captured.run(i, batch(method, i), 1e-2);
        assertEquals(expected, report, name + " step " + i);
        assertArrayEquals(gradients(two), gradients(one), name + " step " + i);
      }
      assertEquals(0, eager.graphs().launches());
      if (!TestDevice.isCpu()) {
        assertEquals(0, captured.graphs().unfilled());
        assertTrue(captured.graphs().captures() >= 2, name + " captures");
        assertTrue(captured.graphs().launches() > captured.graphs().captures(), name + " launches");
      }
    }
  }

  @ParameterizedTest
  @ValueSource(strings = {"ME+GD", "NPO+KL", "IDK+AP"})
  void fillingUpChangesNoNumber(String name) {
    Method method = Methods.create(MethodConfig.of(name));
    try (Model model = model("adapters");
        Step plain = new Step(model, method, settings(Graphs.NEVER), null, TOKENS);
        Step filled = new Step(model, method, settings(Graphs.AUTO), null, TOKENS)) {
      for (int i = 0; i < 4; i++) {
        Step.Gradients expected = plain.gradients(batch(method, i));
        float[] gradients = gradients(model);
        Step.Gradients result = filled.gradients(batch(method, i));
        assertEquals(expected, result, name + " step " + i);
        double off = distance(gradients, gradients(model));
        assertTrue(
            off <= REORDERED * distance(gradients, new float[gradients.length]),
            name + " step " + i + ": gradient off by " + off);
        plain.run(i, batch(method, i), 1e-2);
      }
    }
  }

  @Test
  void aStepInPiecesIsCapturedPieceByPiece() {
    Method method = Methods.create(MethodConfig.of("NPO+GD"));
    int piece =
        StepSizing.largestPiece(method, settings(Graphs.AUTO), null, List.of(batch(method, 0))) / 2;
    try (Model one = model("adapters");
        Model two = model("adapters");
        Step captured = new Step(one, method, settings(Graphs.AUTO), null, piece);
        Step plain = new Step(two, method, settings(Graphs.NEVER), null, piece)) {
      for (int i = 0; i < 4; i++) {
        Step.Gradients expected = plain.gradients(batch(method, 0));
        Step.Gradients result = captured.gradients(batch(method, 0));
        assertTrue(result.microBatches() > 1);
        assertEquals(expected, result);
      }
      double off = distance(gradients(two), gradients(one));
      assertTrue(off <= REORDERED * distance(gradients(two), new float[gradients(two).length]));
    }
  }

  @Test
  void theShapeUsedLongestAgoMakesRoom() {
    Method method = Methods.create(MethodConfig.of("GA"));
    try (Model model = model("adapters");
        Step step = new Step(model, method, settings(Graphs.AUTO), null, TOKENS)) {
      step.graphs().keep(1);
      double loss = step.gradients(batch(method, 0)).loss();
      for (int i = 0; i < 3; i++) {
        assertEquals(loss, step.gradients(batch(method, 0)).loss());
      }
      step.gradients(batch(method, 1));
      assertEquals(loss, step.gradients(batch(method, 0)).loss());
      assertEquals(loss, step.gradients(batch(method, 0)).loss());
      if (!TestDevice.isCpu()) {
        assertEquals(2, step.graphs().evictions());
        assertEquals(4, step.graphs().captures());
        assertEquals(8, step.graphs().launches());
      }
    }
  }

  @Test
  void whatRulesGraphsOutIsSaidWhenTheyAreAskedFor() {
    Method method = Methods.create(MethodConfig.of("ME+GD"));
    try (Model model = model("adapters")) {
      if (TestDevice.isCpu()) {
        UserException e =
            assertThrows(
                UserException.class,
                () -> new Step(model, method, settings(Graphs.ALWAYS), null, TOKENS));
        assertTrue(e.getMessage().contains("train.graphs=always"), e.getMessage());
        assertTrue(e.getMessage().contains("CUDA"), e.getMessage());
        return;
      }
      new Step(model, method, settings(Graphs.ALWAYS), null, TOKENS).close();
      Parity padded = new Parity(0, new Padding(Padding.Kind.CLOSER_LOOK, 64, 2));
      UserException e =
          assertThrows(
              UserException.class,
              () -> new Step(model, method, settings(Graphs.ALWAYS).with(padded), null, TOKENS));
      assertTrue(e.getMessage().contains("parity.padding"), e.getMessage());
    }
  }
}
