package org.lethe.train;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertNotEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.util.ArrayList;
import java.util.List;
import java.util.TreeMap;
import java.util.stream.IntStream;
import org.junit.jupiter.api.Test;
import org.lethe.InternalFaultException;
import org.lethe.UserException;
import org.lethe.method.Role;

/** What Quark's steps consist of. */
class PoolBatchesTest {
  private static final int BOS = 1;
  private static final List<Integer> CONTROLS = List.of(90, 91);

  /** Answers {100 + row, round} that earn {@code row}, and a word of who was asked. */
  private static final class Fake implements PoolBatches.Rounds {
    private final List<String> calls = new ArrayList<>();
    private final int rows;

    Fake(int rows) {
      this.rows = rows;
    }

    @Override
    public List<QuantilePool.Item> sample(int round) {
      calls.add("sample " + round);
      return items(round);
    }

    @Override
    public List<QuantilePool.Item> recall(int round) {
      calls.add("recall " + round);
      return items(round);
    }

    private List<QuantilePool.Item> items(int round) {
      return IntStream.range(0, rows)
          .mapToObj(row -> new QuantilePool.Item(row, new int[] {100 + row, round}, row))
          .toList();
    }
  }

  private static PoolBatches batches(Fake fake, int every, int batchSize) {
    List<PoolBatches.Prompt> prompts =
        IntStream.range(0, fake.rows)
            .mapToObj(
                row ->
                    row % 2 == 0
                        ? new PoolBatches.Prompt(new int[] {BOS, 10 + row}, 1, "f:" + row)
                        : new PoolBatches.Prompt(new int[] {10 + row}, 0, "f:" + row))
            .toList();
    return new PoolBatches(prompts, new PoolBatches.Plan(every, CONTROLS, 3, batchSize, 7), fake);
  }

  @Test
  void anAnswerStandsBehindTheTokenOfItsQuantile() {
    PoolBatches batches = batches(new Fake(4), 3, 4);
    batches.prepare(0);
    TreeMap<String, StepSequence> bySource = new TreeMap<>();
    batches.step(0).forEach(s -> bySource.put(s.source(), s));
    // Rewards 3, 2 are the better half.
    assertArrayEquals(new int[] {91, 11, 101, 0}, bySource.get("f:1").tokens().ids());
    assertArrayEquals(new int[] {BOS, 90, 12, 102, 0}, bySource.get("f:2").tokens().ids());
    assertArrayEquals(new int[] {90, 13, 103, 0}, bySource.get("f:3").tokens().ids());
    StepSequence behindBos = bySource.get("f:0");
    assertArrayEquals(new int[] {BOS, 91, 10, 100, 0}, behindBos.tokens().ids());
    assertEquals(3, behindBos.tokens().answerStart());
    assertEquals(Role.TARGET, behindBos.role());
    // What the reference reads, and which of its rows predict the answer.
    assertArrayEquals(new int[] {BOS, 10, 100, 0}, behindBos.counterpart().ids());
    assertEquals(1, behindBos.counterpart().rows()[2]);
    assertEquals(2, behindBos.counterpart().rows()[3]);
  }

  @Test
  void aRoundGoesThroughTheWholePoolAgainAndAgain() {
    PoolBatches batches = batches(new Fake(5), 6, 2);
    assertEquals(3, batches.stepsPerEpoch());
    List<List<String>> steps = new ArrayList<>();
    for (int index = 0; index < 6; index++) {
      batches.prepare(index);
      steps.add(batches.step(index).stream().map(StepSequence::source).toList());
    }
    for (int epoch = 0; epoch < 2; epoch++) {
      List<String> seen = new ArrayList<>();
      steps.subList(3 * epoch, 3 * epoch + 3).forEach(seen::addAll);
      assertEquals(List.of("f:0", "f:1", "f:2", "f:3", "f:4"), seen.stream().sorted().toList());
    }
    assertNotEquals(steps.subList(0, 3), steps.subList(3, 6));
    // The pool grows by a round's answers.
    batches.prepare(6);
    long answers = IntStream.range(6, 11).mapToLong(index -> batches.step(index).size()).sum();
    assertEquals(10, answers);
  }

  @Test
  void aResumedRunRecallsWhatItSampledBefore() {
    Fake whole = new Fake(4);
    PoolBatches one = batches(whole, 2, 3);
    List<String> steps = new ArrayList<>();
    for (int index = 0; index < 6; index++) {
      one.prepare(index);
      steps.add("" + one.step(index));
    }
    assertEquals(List.of("sample 0", "sample 1", "sample 2"), whole.calls);
    for (int done = 1; done < 6; done++) {
      Fake resumed = new Fake(4);
      PoolBatches other = batches(resumed, 2, 3);
      for (int index = done; index < 6; index++) {
        other.prepare(index);
        assertEquals(steps.get(index), "" + other.step(index));
      }
      for (int round = 0; round < 3; round++) {
        String expected = (2 * round < done ? "recall " : "sample ") + round;
        assertEquals(expected, resumed.calls.get(round), "resumed after " + done);
      }
    }
  }

  @Test
  void noStepIsLargerThanTheSizesSay() {
    PoolBatches batches = batches(new Fake(5), 6, 3);
    List<StepSequence> bound = batches.sizes(6).iterator().next();
    assertEquals(3, bound.size());
    for (StepSequence s : bound) {
      assertEquals(2 + 1 + 3, s.tokens().ids().length);
      assertEquals(2 + 3, s.counterpart().ids().length);
    }
  }

  @Test
  void aPoolWithoutRewardsIsRefused() {
    PoolBatches.Rounds none =
        new PoolBatches.Rounds() {
          @Override
          public List<QuantilePool.Item> sample(int round) {
            return List.of(new QuantilePool.Item(0, new int[] {1}, Double.NaN));
          }

          @Override
          public List<QuantilePool.Item> recall(int round) {
            return List.of();
          }
        };
    PoolBatches batches =
        new PoolBatches(
            List.of(new PoolBatches.Prompt(new int[] {5}, 0, "f:0")),
            new PoolBatches.Plan(2, CONTROLS, 3, 1, 7),
            none);
    UserException e = assertThrows(UserException.class, () -> batches.prepare(0));
    assertTrue(e.getMessage().contains("choose another quark.reward"), e.getMessage());
    assertThrows(InternalFaultException.class, () -> batches.step(4));
  }
}
