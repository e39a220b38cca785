package org.lethe.train;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.util.ArrayList;
import java.util.Arrays;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.ValueSource;
import org.lethe.data.TokenSequence;
import org.lethe.method.Method;
import org.lethe.method.MethodConfig;
import org.lethe.method.Methods;
import org.lethe.method.Role;
import org.lethe.method.RowStatistics;
import org.lethe.method.Sequence;

class MicroBatchTest {
  private static final int VOCABULARY = 101;

  private static List<Sequence> sequencesOf(MicroBatch piece) {
    int rows = piece.headRows().rows();
    float[] zeros = new float[rows * RowStatistics.COLUMNS];
    return piece.sequences(new RowStatistics(zeros, VOCABULARY));
  }

  @ParameterizedTest
  @ValueSource(strings = {"GA", "ME+GD", "NPO+GD", "DPO+KL", "IDK+AP", "none+GD", "GA+KL"})
  void aCutKeepsEverySequenceOnceAndPairsTogether(String name) {
    Method method = Methods.create(MethodConfig.of(name));
    List<StepSequence> step = GoldenSteps.of(method);
    MicroBatch.Layout layout = new MicroBatch.Layout(method, null);
    int whole = step.stream().mapToInt(layout::tokens).sum();
    for (int budget = 1; budget <= whole + 1; budget++) {
      List<MicroBatch> pieces = MicroBatch.cut(step, layout, budget);
      Map<String, Integer> pieceOf = new HashMap<>();
      int seen = 0;
      int rows = 0;
      int tokens = 0;
      int largest = 0;
      for (int i = 0; i < pieces.size(); i++) {
        for (Sequence s : sequencesOf(pieces.get(i))) {
          boolean forgets = s.role() == Role.FORGET || s.role() == Role.FORGET_IDK;
          Integer before = pieceOf.put(forgets + "/" + s.pair(), i);
          assertTrue(before == null || before == i, name + " splits a pair at " + budget);
          seen++;
          rows += s.rows();
        }
        tokens += pieces.get(i).packed().tokens();
        largest = Math.max(largest, pieces.get(i).packed().tokens());
      }
      assertEquals(step.size(), seen, name);
      assertEquals(step.stream().mapToInt(layout::rows).sum(), rows, name);
      assertEquals(whole, tokens, name);
      assertTrue(largest <= MicroBatch.largest(step, layout, budget), name + " at " + budget);
      assertTrue(MicroBatch.largest(step, layout, budget) <= Math.max(budget, largest), name);
    }
    assertEquals(1, MicroBatch.cut(step, layout, whole).size(), name);
    assertEquals(whole, MicroBatch.largest(step, layout, whole + 1), name);
  }

  @Test
  void aReferenceTwinDoublesASequenceUnlessItsNumberIsCached() {
    Method npo = Methods.create(MethodConfig.of("NPO"));
    List<StepSequence> step = GoldenSteps.of(npo);
    MicroBatch.Layout inBatch = new MicroBatch.Layout(npo, null);
    MicroBatch.Layout cached = new MicroBatch.Layout(npo, (tokens, positions) -> 4.5);
    int length = step.get(0).tokens().ids().length;
    assertEquals(2 * length, inBatch.tokens(step.get(0)));
    assertEquals(length, cached.tokens(step.get(0)));
    MicroBatch piece = MicroBatch.cut(step, cached, 4096).get(0);
    assertEquals(piece.packed().sequences(), piece.packed().trainedSequences());
    sequencesOf(piece).forEach(s -> assertEquals(4.5, s.referenceNll()));
    MicroBatch twins = MicroBatch.cut(step, inBatch, 4096).get(0);
    assertEquals(2 * step.size(), twins.packed().sequences());
    assertEquals(step.size(), twins.packed().trainedSequences());
    sequencesOf(twins).forEach(s -> assertTrue(s.referenceNll() >= 0));
  }

  @Test
  void aReferenceForHiddenStatesIsNeverCached() {
    Method kl = Methods.create(MethodConfig.of("none+KL"));
    StepSequence s = GoldenSteps.of(kl).get(0);
    MicroBatch.Layout layout = new MicroBatch.Layout(kl, (tokens, positions) -> 4.5);
    assertEquals(2 * s.tokens().ids().length, layout.tokens(s));
  }

  @Test
  void positionsRestartAndTokensFollowEachOther() {
    Method me = Methods.create(MethodConfig.of("ME"));
    List<StepSequence> step =
        List.of(
            new StepSequence(Role.FORGET, 0, new TokenSequence(new int[] {1, 7, 2}, 1), "a:1"),
            new StepSequence(Role.FORGET, 1, new TokenSequence(new int[] {1, 2}, 1), "a:2"));
    MicroBatch piece =
        MicroBatch.cut(step, new MicroBatch.Layout(me, null), Integer.MAX_VALUE).get(0);
    assertArrayEquals(new int[] {1, 7, 2, 1, 2}, piece.packed().ids());
    assertArrayEquals(new int[] {0, 1, 2, 0, 1}, piece.packed().positions());
    List<Integer> firsts = new ArrayList<>();
    sequencesOf(piece).forEach(s -> firsts.addAll(Arrays.asList(s.firstRow(), s.rows())));
    assertEquals(List.of(0, 2, 2, 1), firsts);
  }
}
