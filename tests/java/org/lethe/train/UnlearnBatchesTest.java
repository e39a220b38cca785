package org.lethe.train;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertNotEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.HashSet;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.stream.IntStream;
import org.junit.jupiter.api.AfterAll;
import org.junit.jupiter.api.BeforeAll;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.lethe.UserException;
import org.lethe.data.Example;
import org.lethe.data.ExampleEncoder;
import org.lethe.data.Pairing;
import org.lethe.data.Passage;
import org.lethe.data.PromptTemplate;
import org.lethe.data.TokenSequence;
import org.lethe.data.Tokenizer;
import org.lethe.data.corpus.BpeTrainer;
import org.lethe.method.Accumulator;
import org.lethe.method.Loss;
import org.lethe.method.Method;
import org.lethe.method.Observed;
import org.lethe.method.Positions;
import org.lethe.method.Role;
import org.lethe.method.Totals;
import org.lethe.method.Use;
import org.lethe.method.Weighted;

/** Which sequences a step of unlearning has, for methods that ask for other answers. */
class UnlearnBatchesTest {
  private static final int ROWS = 6;

  @TempDir static Path directory;
  private static Tokenizer tokenizer;
  private static ExampleEncoder encoder;

  @BeforeAll
  static void train() {
    BpeTrainer.train(List.of("a question", "an answer"), 262).write(directory);
    tokenizer = Tokenizer.load(directory);
    encoder =
        new ExampleEncoder(
            tokenizer, PromptTemplate.plain("{question}"), 64, ExampleEncoder.LongSequence.REFUSE);
  }

  @AfterAll
  static void close() {
    tokenizer.close();
  }

  /** Looks at roles and computes nothing. */
  private record Looks(List<Use> uses) implements Loss {
    @Override
    public String name() {
      return "looks";
    }

    @Override
    public double scale() {
      return 1;
    }

    @Override
    public long count(Totals totals) {
      return 1;
    }

    @Override
    public void evaluate(Observed seen, Accumulator out) {}
  }

  private static Method method(Use... uses) {
    return new Method("Looks", List.of(new Weighted(1, new Looks(List.of(uses)))));
  }

  private static Method looksAt(Role role) {
    return method(Use.nll(Role.FORGET, Positions.ANSWER), Use.nll(role, Positions.ANSWER));
  }

  private static List<Example> rows(String name) {
    return IntStream.range(0, ROWS)
        .mapToObj(i -> Example.of(name + i, name + " says " + i))
        .toList();
  }

  private static UnlearnBatches batches(
      Method method, List<Example> forget, List<Example> retain, Companions with, long seed) {
    return new UnlearnBatches(
        method, forget, retain, with, encoder, 2, Pairing.Kind.FRESH, Turns.JOINT, seed);
  }

  /** The answers of a role in an epoch, by the source question of their pair. */
  private static List<String> answers(UnlearnBatches batches, int epoch, Role role) {
    List<String> answers = new ArrayList<>();
    for (int s = 0; s < batches.stepsPerEpoch(); s++) {
      for (StepSequence sequence : batches.step(epoch * batches.stepsPerEpoch() + s)) {
        if (sequence.role() == role) {
          int[] ids = sequence.tokens().ids();
          int start = sequence.tokens().answerStart();
          answers.add(
              tokenizer.decode(Arrays.copyOf(ids, start))
                  + "|"
                  + tokenizer.decode(Arrays.copyOfRange(ids, start, ids.length)));
        }
      }
    }
    return answers;
  }

  /** What a step costs before it is computed does not grow with how often texts are paired. */
  @Test
  void newPairsOfKnownTextsAreNotTokenised() {
    Method method =
        method(
            Use.nll(Role.FORGET, Positions.ANSWER),
            Use.nll(Role.FORGET_IDK, Positions.ANSWER),
            Use.nll(Role.RETAIN, Positions.ANSWER),
            Use.nll(Role.RETAIN_IDK, Positions.ANSWER));
    Companions with = Companions.of(IntStream.range(0, 40).mapToObj(i -> "no " + i).toList());
    int known = 40;
    List<List<StepSequence>> expected = new ArrayList<>();
    List<List<StepSequence>> steps = new ArrayList<>();
    Set<TokenSequence> before = new HashSet<>();
    UnlearnBatches batches;
    try (Tokenizer own = Tokenizer.load(directory)) {
      ExampleEncoder encodes =
          new ExampleEncoder(
              own, PromptTemplate.plain("{question}"), 64, ExampleEncoder.LongSequence.REFUSE);
      batches =
          new UnlearnBatches(
              method, rows("f"), rows("r"), with, encodes, 4, Pairing.Kind.FRESH, Turns.JOINT, 1);
      for (int i = 0; i < known * batches.stepsPerEpoch(); i++) {
        batches.step(i).forEach(s -> before.add(s.tokens()));
      }
    }
    UnlearnBatches other =
        new UnlearnBatches(
            method, rows("f"), rows("r"), with, encoder, 4, Pairing.Kind.FRESH, Turns.JOINT, 1);
    int first = known * batches.stepsPerEpoch();
    // In any order: a step is a function of its number.
    for (int i = first + 9; i >= first; i--) {
      expected.add(0, other.step(i));
    }
    for (int i = first; i < first + 10; i++) {
      steps.add(batches.step(i));
    }
    assertEquals(expected, steps);
    assertTrue(
        steps.stream().flatMap(List::stream).anyMatch(s -> !before.contains(s.tokens())),
        "every pair came before");
  }

  @Test
  void aRowGetsAsManyDifferentAnswersOfOthersAsAsked() {
    List<String> pool = List.of("f says 0", "x", "y", "z", "x");
    Companions with = new Companions(List.of(), pool, 3, Map.of());
    UnlearnBatches batches = batches(looksAt(Role.FORGET_MISMATCH), rows("f"), List.of(), with, 1);
    List<String> first = answers(batches, 0, Role.FORGET_MISMATCH);
    assertEquals(3 * ROWS, first.size());
    assertEquals(3 * ROWS, new HashSet<>(first).size(), "without replacement: " + first);
    assertTrue(first.stream().noneMatch("f0|f says 0"::equals), "its own answer: " + first);
    assertEquals(first, answers(batches, 0, Role.FORGET_MISMATCH));
    assertNotEquals(new HashSet<>(first), new HashSet<>(answers(batches, 1, Role.FORGET_MISMATCH)));
    UnlearnBatches other = batches(looksAt(Role.FORGET_MISMATCH), rows("f"), List.of(), with, 2);
    assertNotEquals(new HashSet<>(first), new HashSet<>(answers(other, 0, Role.FORGET_MISMATCH)));
  }

  @Test
  void withoutAFileTheRetainRowsLendTheirAnswers() {
    Companions with = new Companions(List.of(), List.of(), 2, Map.of());
    Method method = looksAt(Role.FORGET_MISMATCH);
    UnlearnBatches batches = batches(method, rows("f"), rows("r"), with, 1);
    List<String> answers = answers(batches, 0, Role.FORGET_MISMATCH);
    assertEquals(2 * ROWS, answers.size());
    assertTrue(answers.stream().allMatch(a -> a.matches("f\\d\\|r says \\d")), answers.toString());
    String none =
        assertThrows(UserException.class, () -> batches(method, rows("f"), List.of(), with, 1))
            .getMessage();
    assertTrue(none.contains("the retain set is empty"), none);
    Companions many = new Companions(List.of(), List.of(), ROWS + 1, Map.of());
    String few =
        assertThrows(UserException.class, () -> batches(method, rows("f"), rows("r"), many, 1))
            .getMessage();
    assertTrue(few.contains("gives a forget question 7 answers of others"), few);
    assertTrue(few.contains("data.mismatches=6"), few);
  }

  @Test
  void alternatesChangeFromEpochToEpochAndOneIsTaken() {
    List<Example> forget =
        rows("f").stream().map(e -> e.withAlternates(List.of("u", "v", "w"))).toList();
    Method method = looksAt(Role.FORGET_ALTERNATE);
    UnlearnBatches batches = batches(method, forget, List.of(), Companions.of(List.of()), 1);
    Set<String> seen = new HashSet<>();
    for (int epoch = 0; epoch < 8; epoch++) {
      List<String> answers = answers(batches, epoch, Role.FORGET_ALTERNATE);
      assertEquals(ROWS, answers.size());
      assertEquals(ROWS, answers(batches, epoch, Role.FORGET).size());
      assertEquals(answers, answers(batches, epoch, Role.FORGET_ALTERNATE));
      seen.addAll(answers);
    }
    // Of 18 pairs of row and alternate; missing more than 6 in 48 draws has odds below 1e-3.
    assertTrue(seen.size() > 12, seen.toString());
    List<Example> lacking = new ArrayList<>(forget);
    lacking.set(4, Example.of("q", "a"));
    String message =
        assertThrows(
                UserException.class,
                () -> batches(method, lacking, List.of(), Companions.of(List.of()), 1))
            .getMessage();
    assertTrue(message.contains("\"alternate\"") && message.contains("lethe alternates"), message);
  }

  private static Example sensitive(String answer, int from, int to) {
    return new Example(
        "q", answer, List.of(), List.of(), List.of(), List.of(new Passage(from, to)), "f:1");
  }

  @Test
  void spansComeFromRowsOrFromAModel() {
    Method method = method(Use.nll(Role.FORGET, Positions.SPANS));
    Example row = sensitive("wxyz", 1, 3);
    UnlearnBatches given = batches(method, List.of(row), List.of(), Companions.of(List.of()), 1);
    TokenSequence tokens = given.step(0).get(0).tokens();
    TokenSequence.Span span = tokens.spans().get(0);
    assertEquals("xy", tokenizer.decode(Arrays.copyOfRange(tokens.ids(), span.from(), span.to())));
    TokenSequence found = tokens.withSpans(List.of(new TokenSequence.Span(2, 3)));
    Companions marked = new Companions(List.of(), List.of(), 1, Map.of(row, found));
    assertEquals(
        found, batches(method, List.of(row), List.of(), marked, 1).step(0).get(0).tokens());
    String message =
        assertThrows(
                UserException.class,
                () -> batches(method, rows("f"), List.of(), Companions.of(List.of()), 1))
            .getMessage();
    assertTrue(message.contains("sensitive_spans"), message);
  }

  @Test
  void aTokenLessLikelyThanTheAnswersMeanIsSensitive() {
    TokenSequence row = new TokenSequence(new int[] {1, 9, 5, 6, 7, 8, 2}, 2);
    // The end token's nll of 50 is not looked at: the mean of the others is 1.
    TokenSequence marked = SensitiveTokens.marked(row, new double[] {0.1, 2, 1.5, 0.4, 50}, 2);
    assertEquals(List.of(new TokenSequence.Span(3, 5)), marked.spans());
    TokenSequence alike = SensitiveTokens.marked(row, new double[] {1, 1, 1, 1, 3}, 2);
    assertEquals(List.of(new TokenSequence.Span(2, 6)), alike.spans());
    TokenSequence cut = new TokenSequence(new int[] {1, 9, 5, 6}, 2);
    assertEquals(
        List.of(new TokenSequence.Span(3, 4)),
        SensitiveTokens.marked(cut, new double[] {1, 2}, 2).spans());
  }
}
