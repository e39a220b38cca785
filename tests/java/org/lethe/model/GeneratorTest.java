package org.lethe.model;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.util.Arrays;
import java.util.List;
import java.util.Set;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.ValueSource;
import org.lethe.TestDevice;
import org.lethe.UserException;
import org.lethe.checkpoint.ModelDirectory;
import org.lethe.kernels.Backend;
import org.lethe.kernels.Dtype;
import org.lethe.kernels.HeadOps;
import org.lethe.kernels.Ops;

class GeneratorTest {
  private static final List<int[]> PROMPTS =
      List.of(
          new int[] {1, 5, 9, 33},
          new int[] {1},
          new int[] {1, 70, 71, 72, 73, 74, 75, 76, 77, 78},
          new int[] {1, 5},
          new int[] {1, 100, 3});
  private static final HeadOps.Sampling HOT = new HeadOps.Sampling(1.5f, 0, 1f, 11);

  private Backend backend;
  private Model model;

  @BeforeEach
  void open() {
    backend = TestDevice.open(1);
    model = ModelDirectory.load(new Ops(backend, Dtype.F32), Goldens.path("llama-tiny"), 64);
  }

  @AfterEach
  void close() {
    model.close();
    backend.close();
  }

  private List<int[]> sample(int slots, List<int[]> prompts, HeadOps.Sampling sampling) {
    try (Generator generator = new Generator(model, slots, 32, false)) {
      return generator.sample(prompts, 8, Set.of(), sampling);
    }
  }

  private List<int[]> greedy(int slots, List<int[]> prompts, int maxNewTokens) {
    try (Generator generator = new Generator(model, slots, 32, false)) {
      return generator.greedy(prompts, maxNewTokens, Set.of());
    }
  }

  private static void assertSame(List<int[]> expected, List<int[]> found) {
    assertEquals(expected.size(), found.size());
    for (int i = 0; i < expected.size(); i++) {
      assertArrayEquals(expected.get(i), found.get(i), "prompt " + i);
    }
  }

  @Test
  void aSeedGivesTheSameDrawsWhateverTheSlots() {
    List<int[]> all = sample(5, PROMPTS, HOT);
    assertSame(all, sample(5, PROMPTS, HOT));
    assertSame(all, sample(2, PROMPTS, HOT));
    assertSame(all, sample(1, PROMPTS, HOT));
    List<int[]> other = sample(5, PROMPTS, new HeadOps.Sampling(1.5f, 0, 1f, 12));
    assertFalse(Arrays.deepEquals(all.toArray(), other.toArray()));
  }

  @Test
  void aPromptsDrawsDoNotDependOnItsNeighbours() {
    List<int[]> all = sample(5, PROMPTS, HOT);
    // Only the first two are the same; what follows, and how long it is, may not show in them.
    List<int[]> others = List.of(PROMPTS.get(0), PROMPTS.get(1), new int[] {1, 2, 3, 4, 5, 6});
    List<int[]> found = sample(3, others, HOT);
    assertSame(all.subList(0, 2), found.subList(0, 2));
  }

  @Test
  void equalPromptsAreDrawnApart() {
    List<int[]> twins = sample(2, List.of(PROMPTS.get(0), PROMPTS.get(0)), HOT);
    assertFalse(Arrays.equals(twins.get(0), twins.get(1)));
  }

  @Test
  void theLikeliestAloneIsTheGreedyChoice() {
    List<int[]> greedy = greedy(5, PROMPTS, 8);
    assertSame(greedy, sample(5, PROMPTS, new HeadOps.Sampling(1.7f, 1, 1f, 3)));
    assertSame(greedy, sample(2, PROMPTS, new HeadOps.Sampling(0.9f, 0, 1e-6f, 3)));
    assertSame(greedy, sample(2, PROMPTS, new HeadOps.Sampling(1e-4f, 0, 1f, 3)));
  }

  @Test
  void aStopTokenEndsAContinuationAndIsNoPartOfIt() {
    List<int[]> free = greedy(5, PROMPTS, 8);
    int stop = free.get(0)[3];
    List<int[]> stopped;
    try (Generator generator = new Generator(model, 2, 32, false)) {
      stopped = generator.greedy(PROMPTS, 8, Set.of(stop));
    }
    for (int i = 0; i < PROMPTS.size(); i++) {
      int[] expected = free.get(i);
      int end = 0;
      while (end < expected.length && expected[end] != stop) {
        end++;
      }
      assertArrayEquals(Arrays.copyOf(expected, end), stopped.get(i), "prompt " + i);
    }
    assertTrue(stopped.get(0).length <= 3);
  }

  @ParameterizedTest
  @ValueSource(ints = {0, 1, 5})
  void asManyTokensAsAskedFor(int maxNewTokens) {
    List<int[]> longest = greedy(5, PROMPTS, 8);
    List<int[]> found = greedy(2, PROMPTS, maxNewTokens);
    for (int i = 0; i < PROMPTS.size(); i++) {
      assertArrayEquals(Arrays.copyOf(longest.get(i), maxNewTokens), found.get(i));
    }
  }

  @Test
  void aContinuationEndsWhereTheMemoryDoes() {
    try (Generator generator = new Generator(model, 1, 12, false)) {
      // Ten tokens of twelve are the prompt's; the last new token needs no room.
      assertArrayEquals(
          Arrays.copyOf(greedy(5, PROMPTS, 8).get(2), 3),
          generator.greedy(List.of(PROMPTS.get(2)), 20, Set.of()).get(0));
    }
  }

  @Test
  void aPromptLongerThanTheMemoryKeepsItsEnd() {
    int[] prompt = PROMPTS.get(2);
    int[] end = Arrays.copyOfRange(prompt, prompt.length - 5, prompt.length);
    try (Generator generator = new Generator(model, 2, 6, false)) {
      List<int[]> found = generator.greedy(List.of(prompt, end), 4, Set.of());
      assertArrayEquals(found.get(1), found.get(0));
      assertEquals(2, found.get(0).length);
    }
  }

  @Test
  void theModelsContextIsTheMost() {
    try (Generator generator = new Generator(model, 1, Integer.MAX_VALUE, false)) {
      int[] prompt = new int[60];
      Arrays.fill(prompt, 7);
      assertEquals(5, generator.greedy(List.of(prompt), 100, Set.of()).get(0).length);
    }
  }

  @Test
  void whatCannotBeContinuedIsRefused() {
    assertThrows(UserException.class, () -> new Generator(model, 0, 8, false));
    assertThrows(UserException.class, () -> new Generator(model, 1, 1, false));
    try (Generator generator = new Generator(model, 1, 8, false)) {
      assertEquals(List.of(), generator.greedy(List.of(), 4, Set.of()));
      assertThrows(UserException.class, () -> generator.greedy(List.of(new int[0]), 4, Set.of()));
      assertThrows(
          UserException.class, () -> generator.greedy(List.of(new int[] {1}), -1, Set.of()));
    }
  }
}
