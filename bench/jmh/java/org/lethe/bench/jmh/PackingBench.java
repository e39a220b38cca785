package org.lethe.bench.jmh;

import java.util.ArrayList;
import java.util.HashSet;
import java.util.List;
import java.util.Set;
import java.util.concurrent.TimeUnit;
import org.lethe.data.Pairing;
import org.lethe.data.Refusals;
import org.lethe.data.corpus.BpeTrainer;
import org.lethe.method.Method;
import org.lethe.method.Positions;
import org.lethe.method.ReferenceUse;
import org.lethe.method.Use;
import org.lethe.train.Pieces;
import org.lethe.train.StepSequence;
import org.lethe.train.StepSizing;
import org.lethe.train.Turns;
import org.lethe.train.UnlearnBatches;
import org.openjdk.jmh.annotations.Benchmark;
import org.openjdk.jmh.annotations.BenchmarkMode;
import org.openjdk.jmh.annotations.Fork;
import org.openjdk.jmh.annotations.Measurement;
import org.openjdk.jmh.annotations.Mode;
import org.openjdk.jmh.annotations.OutputTimeUnit;
import org.openjdk.jmh.annotations.Param;
import org.openjdk.jmh.annotations.Scope;
import org.openjdk.jmh.annotations.Setup;
import org.openjdk.jmh.annotations.State;
import org.openjdk.jmh.annotations.TearDown;
import org.openjdk.jmh.annotations.Warmup;

/** From rows to what the model is given: all that Java does for a step before its first op. */
@State(Scope.Thread)
@BenchmarkMode(Mode.AverageTime)
@OutputTimeUnit(TimeUnit.MICROSECONDS)
@Fork(1)
@Warmup(iterations = 3, time = 1)
@Measurement(iterations = 5, time = 1)
public class PackingBench {
  private static final int CONTEXT = 512;
  private static final int BATCH = 8;
  private static final int STEPS = 100;
  private static final int DENSE = 128;
  private static final int VOCABULARY = 32000;

  /** Forget loss and retain loss. */
  @Param({"ME+GD", "NPO+KL", "IDK+AP"})
  public String method;

  /** Of the corpus, ten rows each. */
  @Param("40")
  public int people;

  private Texts texts;
  private Method objective;
  private UnlearnBatches batches;
  private List<List<StepSequence>> run;
  private List<StepSequence> dense;
  private Pieces whole;
  private Pieces quarters;
  private int next;

  /**
   * Makes the steps of a run, and checks that pieces hold each sequence once and where they say.
   */
  @Setup
  public void open() {
    texts = new Texts(people, BpeTrainer.DEFAULT_VOCABULARY, CONTEXT);
    objective = Models.method(method);
    batches =
        new UnlearnBatches(
            objective,
            texts.forget(),
            texts.retain(),
            Refusals.lines(),
            texts.encoder,
            BATCH,
            Pairing.Kind.FRESH,
            Turns.JOINT,
            1);
    run = new ArrayList<>();
    batches.steps(STEPS).forEach(run::add);
    dense = Models.dense(objective, VOCABULARY, BATCH, DENSE);
    whole = new Pieces(objective, Integer.MAX_VALUE);
    quarters = new Pieces(objective, BATCH * DENSE / 2);
    check();
  }

  private void check() {
    Check.that("the whole is one piece", whole.cut(dense).size() == 1);
    Check.that("a quarter's budget makes several", quarters.cut(dense).size() > 1);
    int largest = 0;
    for (Pieces.Piece piece : quarters.cut(dense)) {
      largest = Math.max(largest, piece.packed().tokens());
    }
    Check.that("no piece is larger than was foretold", largest <= quarters.largest(dense));
    for (List<StepSequence> step : run) {
      Set<List<Integer>> wanted = new HashSet<>();
      long tokens = 0;
      long rows = 0;
      for (StepSequence s : step) {
        wanted.add(boxed(s.tokens().ids(), 0, s.tokens().ids().length));
        Use use = use(s);
        int twin = use.reference() == ReferenceUse.NONE ? 1 : 2;
        int length = s.tokens().ids().length;
        tokens += (long) twin * length;
        int first = use.positions() == Positions.ALL ? 1 : s.tokens().answerStart();
        rows += (long) (use.reference() == ReferenceUse.SEQUENCE_NLL ? 2 : 1) * (length - first);
      }
      Pieces.Piece piece = whole.cut(step).get(0);
      Check.that("every token once, twins twice", piece.packed().tokens() == tokens);
      Check.that("every row that a loss looks at", piece.headRows().rows() == rows);
      for (int s = 0; s < piece.packed().sequences(); s++) {
        int from = piece.packed().starts()[s];
        int to = piece.packed().starts()[s + 1];
        Check.that(
            "a sequence of the step", wanted.contains(boxed(piece.packed().ids(), from, to)));
      }
    }
  }

  private Use use(StepSequence s) {
    return objective.uses().stream().filter(u -> u.role() == s.role()).findFirst().orElseThrow();
  }

  private static List<Integer> boxed(int[] ids, int from, int to) {
    List<Integer> boxed = new ArrayList<>();
    for (int i = from; i < to; i++) {
      boxed.add(ids[i]);
    }
    return boxed;
  }

  /** Removes the corpus. */
  @TearDown
  public void close() {
    texts.close();
  }

  @Benchmark
  @Shape(
      "UnlearnBatches.step: pairing, templates and tokenising of 8 forget rows and their partners")
  public List<StepSequence> batch() {
    next = (next + 1) % STEPS;
    return batches.step(next);
  }

  @Benchmark
  @Shape("MicroBatch.cut, 8 sequences of 128 tokens of each role: ids, positions, rows; one piece")
  public List<Pieces.Piece> packWhole() {
    return whole.cut(dense);
  }

  @Benchmark
  @Shape("the same in pieces of at most 512 tokens")
  public List<Pieces.Piece> packQuarters() {
    return quarters.cut(dense);
  }

  @Benchmark
  @Shape("StepSizing.largestPiece over the 100 steps of a run that is already tokenised")
  public int largestPiece() {
    return StepSizing.largestPiece(objective, TrainedStep.settings(), null, run);
  }
}
