package org.lethe.train;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.lang.ref.WeakReference;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.stream.IntStream;
import org.junit.jupiter.api.Test;
import org.lethe.TestDevice;
import org.lethe.data.CounterRng;
import org.lethe.data.TokenSequence;
import org.lethe.kernels.Backend;
import org.lethe.kernels.Dtype;
import org.lethe.method.Method;
import org.lethe.method.MethodConfig;
import org.lethe.method.Methods;
import org.lethe.method.Role;
import org.lethe.model.LoraConfig;
import org.lethe.model.Model;

class StepCutTest {
  private static final Method METHOD = Methods.create(MethodConfig.of("ME+GD"));
  private static final MicroBatch.Layout LAYOUT = new MicroBatch.Layout(METHOD, null);

  /** A step of pairs with so many tokens each. */
  private static List<StepSequence> step(int... lengths) {
    List<StepSequence> step = new ArrayList<>();
    for (int i = 0; i < lengths.length; i++) {
      int[] ids = new int[lengths[i]];
      ids[0] = 1;
      step.add(new StepSequence(Role.RETAIN, i, new TokenSequence(ids, 1), "row " + i));
    }
    return step;
  }

  private static List<Integer> tokens(int limit, int... lengths) {
    return new StepCut(step(lengths), LAYOUT)
        .pieces(limit).stream().map(p -> p.stream().mapToInt(LAYOUT::tokens).sum()).toList();
  }

  /** Steps of a long run are not held together: their sequences would fill the heap. */
  @Test
  void manyStepsAreNotKept() {
    List<WeakReference<TokenSequence>> seen = new ArrayList<>();
    Iterable<List<StepSequence>> steps =
        () ->
            IntStream.range(0, 20_000)
                .mapToObj(
                    i -> {
                      List<StepSequence> step = step(i % 7 + 2, i % 11 + 2);
                      seen.add(new WeakReference<>(step.get(0).tokens()));
                      return step;
                    })
                .iterator();
    StepCuts cuts = StepSizes.cuts(steps, LAYOUT);
    System.gc();
    long kept = seen.stream().filter(s -> s.get() != null).count();
    assertTrue(kept <= 5000, kept + " steps are kept");
    assertEquals(8 + 12, cuts.largest(100));
  }

  /** Steps of which the largest numbers alone are known take no more than the plan says. */
  @Test
  void whatIsNotKeptIsBounded() {
    List<List<StepSequence>> steps = new ArrayList<>();
    for (int i = 0; i < 30; i++) {
      steps.add(step(2 + CounterRng.below(60, 4, i), 2 + CounterRng.below(60, 5, i), 2 + i));
    }
    StepCuts exact = StepSizes.cuts(steps, LAYOUT);
    StepSizes three = new StepSizes(LAYOUT, 3, Long.MAX_VALUE);
    steps.forEach(three::add);
    StepCuts few = three.cuts();
    int whole = exact.largest(Integer.MAX_VALUE);
    for (int limit = 1; limit <= whole + 10; limit++) {
      assertEquals(exact.largest(limit), few.largest(limit));
      int tightest = few.tightest(limit);
      assertTrue(tightest <= exact.tightest(limit) && tightest >= 1, "limit " + limit);
      assertTrue(limit < whole || tightest == whole, "limit " + limit);
      for (List<StepSequence> step : steps) {
        for (List<StepSequence> piece : new StepCut(step, LAYOUT).pieces(tightest)) {
          assertTrue(
              piece.stream().mapToInt(LAYOUT::tokens).sum() <= few.largest(tightest),
              "limit " + limit);
        }
      }
    }
  }

  /** Wide steps are fewer that are kept, and what comes behind them bounds the sizes still. */
  @Test
  void wideStepsAreKeptWhileThereIsRoom() {
    List<StepSequence> wide = step(100, 100, 100);
    List<StepSequence> other = step(90, 90, 90, 140);
    long one = new StepCut(wide, LAYOUT).numbers();
    StepSizes both = new StepSizes(LAYOUT, 2, one + new StepCut(other, LAYOUT).numbers());
    StepSizes first = new StepSizes(LAYOUT, 2, one);
    for (List<StepSequence> step : List.of(wide, other)) {
      both.add(step);
      first.add(step);
    }
    // The second needs 230 for two pieces, the first makes do with 200.
    assertEquals(230, both.cuts().tightest(299));
    assertEquals(200, first.cuts().tightest(299));
    assertEquals(410, first.cuts().largest(1000));
    assertEquals(140, first.cuts().largest(1));
  }

  /** A training looks at its steps as they pass by, once. */
  @Test
  void aTrainingHoldsNoSteps() {
    int count = 12_000;
    List<WeakReference<TokenSequence>> seen = new ArrayList<>();
    long[] found = {0, 0};
    Iterable<List<StepSequence>> steps =
        () -> {
          found[0]++;
          return IntStream.range(0, count)
              .mapToObj(
                  i -> {
                    if (i == count - 1) {
                      System.gc();
                      found[1] = seen.stream().filter(s -> s.get() != null).count();
                    }
                    List<StepSequence> step = step(i % 7 + 2, i % 11 + 2);
                    seen.add(new WeakReference<>(step.get(0).tokens()));
                    return step;
                  })
              .iterator();
        };
    TrainSettings settings = TrainSettings.of(count, 1e-3, Schedule.CONSTANT, 0);
    try (Backend backend = TestDevice.open(1);
        Model model = GoldenSteps.model(backend, Dtype.F32)) {
      model.addLora(LoraConfig.all(2, 4), 1);
      try (Step step = StepSizing.fitted(model, METHOD, settings, null, steps, Sharding.none())) {
        assertEquals(8 + 12, step.fit().piece());
      }
    }
    assertEquals(1, found[0]);
    assertTrue(found[1] <= 5000, found[1] + " steps are held");
  }

  @Test
  void noRemainderIsAPieceOfItsOwn() {
    int[] sixteen = new int[16];
    Arrays.fill(sixteen, 128);
    assertEquals(List.of(2048), tokens(2048, sixteen));
    assertEquals(List.of(1024, 1024), tokens(2047, sixteen));
    assertEquals(List.of(512, 512, 512, 512), tokens(5 * 128, sixteen));
    assertEquals(List.of(768, 768, 512), tokens(6 * 128 + 100, sixteen));
  }

  @Test
  void aPairBeyondTheLimitIsAPieceOfItsOwn() {
    assertEquals(List.of(10, 90, 20), tokens(30, 10, 90, 20));
    assertEquals(List.of(), tokens(30));
  }

  /** The fewest pieces whose largest has at most so many tokens, in order. */
  private static int fewest(int[] lengths, int limit) {
    int pieces = 0;
    int tokens = 0;
    for (int length : lengths) {
      if (pieces == 0 || tokens + length > limit) {
        pieces++;
        tokens = 0;
      }
      tokens += length;
    }
    return pieces;
  }

  @Test
  void piecesAreAsFewAsTheLimitAllowsAndTheirLargestIsTheLeastThereIs() {
    for (int seed = 0; seed < 300; seed++) {
      int[] lengths = new int[1 + CounterRng.below(14, 1, seed)];
      int total = 0;
      for (int i = 0; i < lengths.length; i++) {
        lengths[i] = 2 + CounterRng.below(60, 2, seed, i);
        total += lengths[i];
      }
      int limit = 1 + CounterRng.below(total + 20, 3, seed);
      List<Integer> pieces = tokens(limit, lengths);
      int largest = pieces.stream().mapToInt(Integer::intValue).max().orElseThrow();
      assertEquals(total, pieces.stream().mapToInt(Integer::intValue).sum());
      assertEquals(fewest(lengths, limit), pieces.size(), "seed " + seed);
      assertTrue(fewest(lengths, largest - 1) > pieces.size() || single(lengths, largest));
      StepCut cut = new StepCut(step(lengths), LAYOUT);
      int tightest = cut.tightest(limit, 1);
      assertEquals(pieces.size(), fewest(lengths, tightest), "seed " + seed);
      assertTrue(tightest <= limit && cut.largest(tightest) == largest, "seed " + seed);
      assertEquals(pieces, tokens(tightest, lengths), "seed " + seed);
    }
  }

  /** Whether the largest piece is one pair, which no limit makes smaller. */
  private static boolean single(int[] lengths, int largest) {
    return Arrays.stream(lengths).max().orElseThrow() == largest;
  }

  @Test
  void aRunsLimitCutsNoStepMoreOften() {
    List<List<StepSequence>> steps = List.of(step(100, 100, 100, 100), step(90, 90, 90), step(50));
    StepCuts cuts = StepSizes.cuts(steps, LAYOUT);
    assertEquals(400, cuts.tightest(4096));
    assertEquals(400, cuts.largest(4096));
    // 200 would do for the first, but cut the second into two pieces.
    assertEquals(270, cuts.tightest(399));
    assertEquals(200, cuts.tightest(269));
    assertEquals(100, cuts.largest(1));
    assertEquals(400, StepCuts.whole(cuts).largest(100));
    assertEquals(100, StepCuts.whole(cuts).tightest(100));
    assertEquals(1, StepSizes.cuts(List.of(), LAYOUT).tightest(100));
  }
}
