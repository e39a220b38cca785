package org.lethe.train;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.Map;
import java.util.stream.IntStream;
import org.junit.jupiter.api.AfterAll;
import org.junit.jupiter.api.BeforeAll;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.TestInstance;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.ValueSource;
import org.lethe.TestDevice;
import org.lethe.checkpoint.AdapterDirectory;
import org.lethe.data.CounterRng;
import org.lethe.data.TokenSequence;
import org.lethe.kernels.Backend;
import org.lethe.kernels.Dtype;
import org.lethe.method.Method;
import org.lethe.method.MethodConfig;
import org.lethe.method.Methods;
import org.lethe.method.Positions;
import org.lethe.method.Role;
import org.lethe.method.RowStatistics;
import org.lethe.model.Goldens;
import org.lethe.model.GradientReader;
import org.lethe.model.LoraConfig;
import org.lethe.model.Model;

/** Steps and scores of sequences that begin alike, with one copy of what they begin with. */
@TestInstance(TestInstance.Lifecycle.PER_CLASS)
class SharedPrefixesTest {
  private static final int VOCABULARY = 101;
  // Two orders of the same fp32 sums, each within the project's bound of the exact one.
  private static final double TOLERANCE = 2e-5;
  private static final int[] TEMPLATE = {
    1, 9, 8, 7, 6, 5, 4, 3, 11, 12, 13, 14, 15, 16, 17, 18, 19
  };

  private static final List<Role> ROLES =
      List.of(Role.FORGET, Role.FORGET_IDK, Role.RETAIN, Role.RETAIN_IDK);

  private Backend backend;
  private Model model;

  @BeforeAll
  void load() {
    backend = TestDevice.open(2);
    model = GoldenSteps.model(backend, Dtype.F32);
    AdapterDirectory.load(model, Goldens.path("llama-tiny/adapter"), true);
  }

  @AfterAll
  void close() {
    model.close();
    backend.close();
  }

  private static int[] ids(int stream, int count) {
    return IntStream.range(0, count)
        .map(t -> 20 + CounterRng.below(VOCABULARY - 20, 5, stream, t))
        .toArray();
  }

  private static int[] joined(int[]... parts) {
    return Arrays.stream(parts).flatMapToInt(Arrays::stream).toArray();
  }

  /** A question behind the template and one of its answers. */
  private static StepSequence sequence(Role role, int pair, int question, int answer) {
    int side = role.forgets() ? 0 : 100;
    int[] prompt = joined(TEMPLATE, ids(1000 + side + pair, question));
    int[] ids = joined(prompt, ids(2000 + side + pair * 50 + role.name().length(), answer));
    return new StepSequence(role, pair, new TokenSequence(ids, prompt.length), role + ":" + pair);
  }

  /** Two forget and two retain questions, each with an answer and a refusal. */
  private static List<StepSequence> step(Method method) {
    List<StepSequence> step = new ArrayList<>();
    for (int pair = 0; pair < 2; pair++) {
      step.add(sequence(Role.FORGET, pair, 5 + 3 * pair, 9));
      step.add(sequence(Role.FORGET_IDK, pair, 5 + 3 * pair, 4 + pair));
      step.add(sequence(Role.RETAIN, pair, 4 + pair, 6));
      step.add(sequence(Role.RETAIN_IDK, pair, 4 + pair, 7));
    }
    return step.stream()
        .filter(s -> method.uses().stream().anyMatch(u -> u.role() == s.role()))
        .toList();
  }

  private static TrainSettings settings(TrainSettings.SharedPrefixes shared) {
    return TrainSettings.of(1, 1e-3, Schedule.CONSTANT, 0).with(shared);
  }

  private record Found(Step.Gradients of, Map<String, float[]> gradients) {}

  private Found found(Method method, TrainSettings settings) {
    int largest = StepSizing.largestPiece(model, method, settings, null, List.of(step(method)));
    try (Step step = new Step(model, method, settings, null, largest)) {
      Step.Gradients of = step.gradients(step(method));
      return new Found(of, GradientReader.gradients(model.trainable()));
    }
  }

  /** How many of the sequences lie behind another one: all but the first of each side. */
  @ParameterizedTest
  @ValueSource(strings = {"ME+GD", "IDK+AP", "DPO+GD", "NPO+KL", "DPO+KL", "GA+GD"})
  void lossesAndGradientsAreThoseOfWholeSequences(String name) {
    Method method = Methods.create(MethodConfig.of(name));
    Found whole = found(method, settings(TrainSettings.SharedPrefixes.OFF));
    assertEquals(0, whole.of().sharedTokens());
    for (TrainSettings.SharedPrefixes how :
        List.of(TrainSettings.SharedPrefixes.AUTO, TrainSettings.SharedPrefixes.ON)) {
      for (int budget : new int[] {4096, 1}) {
        Found shared = found(method, settings(how).withTokensPerMicroBatch(budget));
        Step.Gradients of = shared.of();
        boolean paired = step(method).size() > 4;
        assertEquals(budget > 1 || paired, of.sharedTokens() > 0, name);
        assertEquals(whole.of().tokens(), of.tokens() + of.sharedTokens(), name);
        // A row's bits depend on the keys it sees alone, wherever they lie.
        if (TestDevice.isCpu()) {
          assertEquals(whole.of().loss(), of.loss(), name);
        }
        assertEquals(whole.of().loss(), of.loss(), TOLERANCE * Math.abs(of.loss()), name);
        for (Map.Entry<String, float[]> g : whole.gradients().entrySet()) {
          double error = Goldens.relativeError(shared.gradients().get(g.getKey()), g.getValue());
          assertTrue(error <= TOLERANCE, name + " " + g.getKey() + " differs by " + error);
        }
      }
    }
  }

  @Test
  void anAnswerAndARefusalStandBehindOneQuestion() {
    Method method = Methods.create(MethodConfig.of("IDK+AP"));
    Prefixes all = new Prefixes(1, length -> 0);
    MicroBatch.Layout layout =
        new MicroBatch.Layout(method, null, true, Padding.NONE, all, VOCABULARY);
    TokenSequence answer = new TokenSequence(new int[] {1, 30, 31, 40, 41, 2}, 3);
    TokenSequence refusal = new TokenSequence(new int[] {1, 30, 31, 40, 50, 51, 2}, 3);
    List<StepSequence> pair =
        List.of(
            new StepSequence(Role.RETAIN, 0, answer, "a:1"),
            new StepSequence(Role.RETAIN_IDK, 0, refusal, "a:1"));
    assertEquals(6 + 4, new StepCut(pair, layout).largest(1));
    MicroBatch piece = MicroBatch.cut(pair, layout, 100).get(0);
    // The tokens that losses look at stay a sequence's own, though both answers begin with 40.
    assertArrayEquals(new int[] {1, 30, 31, 40, 41, 2, 40, 50, 51, 2}, piece.packed().ids());
    assertArrayEquals(new int[] {0, 1, 2, 3, 4, 5, 3, 4, 5, 6}, piece.packed().positions());
    assertArrayEquals(new int[] {0, 0, 0, 3}, piece.packed().parents());
    assertEquals(3, piece.packed().sharedTokens());
    // Both first tokens are predicted at the question's last.
    assertArrayEquals(new int[] {2, 3, 4, 6, 7, 8}, piece.headRows().sourceTokens());
    assertEquals(3 + 4, piece.headRows().rows());
  }

  @Test
  void whateverLeavesOutMoreTokensLeads() {
    Prefixes prefixes = new Prefixes(16, length -> 0);
    List<Prefixes.Text> texts = new ArrayList<>();
    int[] shortQuestion = joined(TEMPLATE, ids(1, 3));
    int[] longQuestion = joined(TEMPLATE, ids(2, 30));
    texts.add(new Prefixes.Text(joined(TEMPLATE, ids(3, 8)), 4, "a"));
    texts.add(new Prefixes.Text(joined(shortQuestion, ids(4, 4)), 4, "b"));
    texts.add(new Prefixes.Text(joined(shortQuestion, ids(5, 4)), 4, "b"));
    texts.add(new Prefixes.Text(joined(longQuestion, ids(6, 4)), 4, "c"));
    texts.add(new Prefixes.Text(joined(longQuestion, ids(7, 4)), 4, "c"));
    int template = TEMPLATE.length;
    // Twice the template is more than one short question, and less than one long one.
    assertEquals(
        List.of(
            new Prefixes.Shared(0, 0),
            new Prefixes.Shared(0, template),
            new Prefixes.Shared(0, template),
            new Prefixes.Shared(3, 0),
            new Prefixes.Shared(3, template + 30)),
        prefixes.plan(texts));
    assertEquals(new Prefixes.Shared(0, 0), Prefixes.NONE.plan(texts.subList(0, 2)).get(0));
    assertEquals(0, Prefixes.NONE.plan().add(texts.subList(3, 5)));
    assertEquals(template + 30, prefixes.plan().add(texts.subList(3, 5)));
    Prefixes.Plan plan = prefixes.plan();
    assertEquals(0, plan.add(texts.subList(0, 1)));
    assertEquals(2 * template, plan.add(texts.subList(1, 3)));
    assertEquals(prefixes.plan(texts.subList(0, 3)), plan.shared());
  }

  @Test
  void sequencesThatTurnByOtherAnglesShareNothing() {
    Prefixes prefixes = new Prefixes(1, length -> length > 25 ? 1 : 0);
    Prefixes.Text small = new Prefixes.Text(joined(TEMPLATE, ids(1, 8)), 4, "a");
    Prefixes.Text large = new Prefixes.Text(joined(TEMPLATE, ids(1, 9)), 4, "a");
    assertEquals(0, prefixes.shared(small, large));
    assertEquals(TEMPLATE.length + 5, prefixes.shared(large, large));
    assertEquals(TEMPLATE.length + 4, prefixes.shared(small, small));
  }

  @Test
  void piecesHoldWhatWasCountedForThem() {
    for (int seed = 0; seed < 200; seed++) {
      Method method = Methods.create(MethodConfig.of(seed % 2 == 0 ? "DPO+AP" : "IDK+KL"));
      Prefixes prefixes = new Prefixes(1 + CounterRng.below(20, 3, seed), length -> length / 40);
      MicroBatch.Layout layout =
          new MicroBatch.Layout(method, null, true, Padding.NONE, prefixes, VOCABULARY);
      List<StepSequence> step = new ArrayList<>();
      for (int i = 0; i < 12; i++) {
        Role role = ROLES.get(CounterRng.below(ROLES.size(), 4, seed, i));
        int question = CounterRng.below(12, 5, seed, i % 3);
        step.add(sequence(role, i % 3, question, 1 + CounterRng.below(9, 6, seed, i)));
      }
      step.removeIf(s -> layout.of(s.role()).isEmpty());
      int budget = 1 + CounterRng.below(300, 7, seed);
      int largest = new StepCut(step, layout).largest(budget);
      // Some of the groups, as in a shard, in pieces of that size.
      List<StepSequence> some = step.stream().filter(s -> s.pair() != 1).toList();
      for (MicroBatch piece : MicroBatch.cut(some, layout, largest)) {
        assertTrue(piece.packed().tokens() <= largest, "tokens of some, seed " + seed);
      }
      int whole = new StepCut(step, layout).largest(Integer.MAX_VALUE);
      List<MicroBatch> one = MicroBatch.cut(step, layout, whole);
      assertEquals(step.isEmpty() ? 0 : 1, one.size());
      assertEquals(whole, one.isEmpty() ? 0 : one.get(0).packed().tokens(), "seed " + seed);
      for (MicroBatch piece : MicroBatch.cut(step, layout, budget)) {
        assertTrue(piece.packed().tokens() <= largest, "tokens, seed " + seed);
        assertTrue(
            piece.headRows().rows() <= layout.rows(piece.packed().tokens()), "rows, seed " + seed);
      }
    }
  }

  @Test
  void dropoutAndPaddingShareNothing() {
    Method method = Methods.create(MethodConfig.of("IDK+AP"));
    Padding padding = new Padding(Padding.Kind.CLOSER_LOOK, 60, 2);
    TrainSettings on = settings(TrainSettings.SharedPrefixes.ON);
    assertTrue(found(method, on).of().sharedTokens() > 0);
    assertEquals(0, found(method, on.with(new Parity(0, padding))).of().sharedTokens());
    try (Model drops = GoldenSteps.model(backend, Dtype.F32)) {
      LoraConfig all = LoraConfig.all(4, 8);
      drops.addLora(
          new LoraConfig(
              all.rank(),
              all.alpha(),
              all.rankStabilized(),
              0.1,
              all.targets(),
              all.rankPattern(),
              all.alphaPattern()),
          7);
      int largest = StepSizing.largestPiece(drops, method, on, null, List.of(step(method)));
      try (Step step = new Step(drops, method, on, null, largest)) {
        assertEquals(0, step.gradients(step(method)).sharedTokens());
      }
    }
  }

  @Test
  void aStepOfSharedPrefixesTakesTheSameMemoryThatWasPlanned() {
    Method method = Methods.create(MethodConfig.of("IDK+AP"));
    TrainSettings on = settings(TrainSettings.SharedPrefixes.ON);
    int shared = StepSizing.largestPiece(model, method, on, null, List.of(step(method)));
    int whole = StepSizing.largestPiece(method, on, null, List.of(step(method)));
    Step.Gradients of = found(method, on).of();
    assertEquals(whole, of.tokens() + of.sharedTokens());
    assertEquals(shared, of.tokens());
    assertTrue(shared < whole, shared + " " + whole);
  }

  /** The answers of a set, one question after the other, as an evaluation reads them. */
  @Test
  void scoresAreThoseOfEachSequenceAlone() {
    List<TokenSequence> sequences = new ArrayList<>();
    for (int question = 0; question < 4; question++) {
      for (int answer = 0; answer < 5; answer++) {
        int[] prompt = joined(TEMPLATE, ids(question, question == 2 ? 0 : 6));
        int[] ids = joined(prompt, ids(100 + 10 * question + answer, 2 + answer));
        sequences.add(new TokenSequence(ids, prompt.length));
      }
    }
    for (Positions positions : List.of(Positions.ANSWER, Positions.ALL)) {
      for (int budget : new int[] {60, 2048}) {
        try (Scorer together = new Scorer(model, budget, true)) {
          List<double[]> read = together.read(sequences, positions, SharedPrefixesTest::all);
          for (int i = 0; i < sequences.size(); i++) {
            double[] alone =
                together
                    .read(sequences.subList(i, i + 1), positions, SharedPrefixesTest::all)
                    .get(0);
            double error = TestDevice.isCpu() ? 0 : TOLERANCE;
            assertArrayEquals(alone, read.get(i), error, positions + " " + i);
          }
        }
      }
    }
  }

  private static double[] all(
      TokenSequence sequence, RowStatistics statistics, org.lethe.method.Sequence rows) {
    return IntStream.range(rows.firstRow(), rows.firstRow() + rows.rows())
        .mapToDouble(statistics::nll)
        .toArray();
  }
}
