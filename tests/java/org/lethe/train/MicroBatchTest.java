package org.lethe.train;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
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
import org.lethe.kernels.HeadOps;
import org.lethe.method.Accumulator;
import org.lethe.method.Loss;
import org.lethe.method.Method;
import org.lethe.method.MethodConfig;
import org.lethe.method.Methods;
import org.lethe.method.Observed;
import org.lethe.method.Positions;
import org.lethe.method.ReferenceUse;
import org.lethe.method.Role;
import org.lethe.method.RowKind;
import org.lethe.method.RowParameters;
import org.lethe.method.RowStatistics;
import org.lethe.method.Sequence;
import org.lethe.method.Totals;
import org.lethe.method.Use;
import org.lethe.method.Weighted;
import org.lethe.model.HeadRows;

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
          boolean forgets = s.role().forgets();
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
      assertTrue(largest <= new StepCut(step, layout).largest(budget), name + " at " + budget);
      assertTrue(new StepCut(step, layout).largest(budget) <= Math.max(budget, largest), name);
    }
    assertEquals(1, MicroBatch.cut(step, layout, whole).size(), name);
    assertEquals(whole, new StepCut(step, layout).largest(whole + 1), name);
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
  void severalUsesOfARoleHaveRowsOfTheirOwnOnOneHiddenState() {
    Use plain = Use.nll(Role.FORGET, Positions.ANSWER);
    Use warm = Use.nll(Role.FORGET, Positions.ALL).with(RowParameters.temperature(2));
    Use near = new Use(Role.FORGET, Positions.EVERY, RowKind.REFERENCE_KL, ReferenceUse.HIDDEN);
    Method method = new Method("test", List.of(looking("a", plain, warm), looking("b", near)));
    TokenSequence tokens = new TokenSequence(new int[] {1, 7, 8, 2}, 2);
    List<StepSequence> step = List.of(new StepSequence(Role.FORGET, 0, tokens, "a:1"));
    MicroBatch.Layout layout = new MicroBatch.Layout(method, null);
    assertEquals(3, layout.rows(1));
    assertEquals(8, layout.tokens(step.get(0)));
    assertEquals(2 + 3 + 4, layout.rows(step.get(0)));
    MicroBatch piece = MicroBatch.cut(step, layout, 100).get(0);
    HeadRows rows = piece.headRows();
    assertEquals(9, rows.rows());
    assertEquals(4, rows.trainedSources());
    assertEquals(8, rows.sources());
    assertEquals(
        List.of(plain, warm, near), sequencesOf(piece).stream().map(Sequence::use).toList());
    int[] last = Arrays.copyOfRange(rows.records(), 8 * HeadOps.ROW_FIELDS, 9 * HeadOps.ROW_FIELDS);
    assertEquals(3, rows.sourceTokens()[last[0]]);
    assertEquals(-1, last[1]);
    assertEquals(7, rows.sourceTokens()[last[3]]);
    for (int row = 0; row < 9; row++) {
      float expected = row >= 2 && row < 5 ? 2 : 1;
      assertEquals(expected, rows.parameters()[row * HeadRows.PARAMETERS]);
    }
  }

  @Test
  void spansAreTheRowsThatPredictThem() {
    TokenSequence tokens =
        new TokenSequence(new int[] {1, 7, 8, 9, 2}, 2)
            .withSpans(List.of(new TokenSequence.Span(1, 2), new TokenSequence.Span(3, 5)));
    assertArrayEquals(new int[] {0, 2, 3}, Rows.of(Positions.SPANS, tokens));
    assertArrayEquals(new int[] {1, 2, 3}, Rows.of(Positions.ANSWER, tokens));
    assertArrayEquals(new int[] {2, 3, 4}, Rows.of(Positions.ANSWER_UNSHIFTED, tokens));
    assertThrows(
        IllegalArgumentException.class,
        () -> tokens.withSpans(List.of(new TokenSequence.Span(0, 1))));
  }

  private static Weighted looking(String name, Use... uses) {
    return new Weighted(
        1,
        new Loss() {
          @Override
          public String name() {
            return name;
          }

          @Override
          public List<Use> uses() {
            return List.of(uses);
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
          public void evaluate(Observed seen, Accumulator out) {
            out.term(0);
          }
        });
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
