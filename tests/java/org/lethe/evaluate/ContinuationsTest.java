package org.lethe.evaluate;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.Random;
import java.util.Set;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.lethe.TestDevice;
import org.lethe.checkpoint.ModelDirectory;
import org.lethe.data.TokenSequence;
import org.lethe.evaluate.Continuations.Text;
import org.lethe.kernels.Backend;
import org.lethe.kernels.Dtype;
import org.lethe.kernels.Ops;
import org.lethe.method.Positions;
import org.lethe.model.Generator;
import org.lethe.model.Goldens;
import org.lethe.model.Model;

class ContinuationsTest {
  private static final int VOCABULARY = 101;
  private static final int END = 2;

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

  /**
   * Texts that the model knows in part: its own continuations with a token changed here and there.
   */
  private List<Text> texts() {
    Random random = new Random(3);
    List<Text> texts = new ArrayList<>();
    try (Generator generator = new Generator(model, 4, 40, false)) {
      for (int i = 0; i < 6; i++) {
        int[] prompt = {1, 3 + random.nextInt(VOCABULARY - 3), 3 + random.nextInt(VOCABULARY - 3)};
        int[] said = generator.greedy(List.of(prompt), 10 + 3 * i, Set.of()).get(0);
        for (int changes = 0; changes < i; changes++) {
          said[random.nextInt(said.length)] = 3 + random.nextInt(VOCABULARY - 3);
        }
        int[] ids = Arrays.copyOf(prompt, prompt.length + said.length);
        System.arraycopy(said, 0, ids, prompt.length, said.length);
        texts.add(new Text(ids, i % 2 == 0 ? 1 : prompt.length));
      }
    }
    texts.add(new Text(new int[] {1}, 1));
    texts.add(new Text(new int[] {1, 7}, 1));
    return texts;
  }

  private void assertSameAsContinuingEveryPrefix(Set<Integer> stop) {
    List<Text> texts = texts();
    List<Continuations.Seen> fast = new Continuations(model, model.reference(), stop, 5).of(texts);
    List<List<int[]>> slow = new Continuations(model, model.reference(), stop, 3).ofEvery(texts);
    int hits = 0;
    int misses = 0;
    for (int i = 0; i < texts.size(); i++) {
      int from = texts.get(i).from();
      int prefixes = texts.get(i).ids().length - from;
      assertEquals(prefixes, fast.get(i).continuations().size());
      for (int k = 0; k < prefixes; k++) {
        assertArrayEquals(
            slow.get(i).get(k), fast.get(i).continuations().get(k), "text " + i + " prefix " + k);
        boolean hit = fast.get(i).hits().get(from + k);
        hits += hit ? 1 : 0;
        misses += hit ? 0 : 1;
      }
    }
    // Otherwise one of the two ways was not tried.
    assertTrue(hits > 20 && misses > 20, hits + " hits, " + misses + " misses");
  }

  @Test
  void onlyMismatchesNeedToBeContinued() {
    assertSameAsContinuingEveryPrefix(Set.of());
  }

  @Test
  void alsoWhereTokensEndAContinuation() {
    // Tokens of the texts themselves, so that continuations stop in their middle.
    int[] ids = texts().get(1).ids();
    assertSameAsContinuingEveryPrefix(Set.of(ids[ids.length - 1], texts().get(3).ids()[8]));
  }

  @Test
  void aRowIsTakenWithoutItsEnd() {
    TokenSequence row = new TokenSequence(new int[] {1, 5, 6, 7, END}, 2);
    Text answer = Text.of(row, Positions.ANSWER, END);
    assertArrayEquals(new int[] {1, 5, 6, 7}, answer.ids());
    assertEquals(2, answer.from());
    assertEquals(1, Text.of(row, Positions.ALL, END).from());
    Text cut = Text.of(new TokenSequence(new int[] {1, 5, 6, 7}, 2), Positions.ANSWER, END);
    assertEquals(4, cut.ids().length);
    Text bare = Text.of(new TokenSequence(new int[] {1, 5, END}, 2), Positions.ANSWER, END);
    assertEquals(2, bare.from());
    assertTrue(
        new Continuations(model, model.reference(), Set.of(), 1)
            .of(List.of(bare))
            .get(0)
            .hits()
            .isEmpty());
  }
}
