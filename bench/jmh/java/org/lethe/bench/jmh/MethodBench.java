package org.lethe.bench.jmh;

import java.util.ArrayList;
import java.util.List;
import java.util.concurrent.TimeUnit;
import org.lethe.data.CounterRng;
import org.lethe.method.Method;
import org.lethe.method.MethodStep;
import org.lethe.method.RowStatistics;
import org.lethe.method.Sequence;
import org.lethe.method.Totals;
import org.lethe.method.Use;
import org.openjdk.jmh.annotations.AuxCounters;
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
import org.openjdk.jmh.annotations.Warmup;
import org.openjdk.jmh.infra.Blackhole;

/** What a method does in Java between the head and the backward pass. */
@State(Scope.Thread)
@BenchmarkMode(Mode.AverageTime)
@OutputTimeUnit(TimeUnit.NANOSECONDS)
@Fork(1)
@Warmup(iterations = 3, time = 1)
@Measurement(iterations = 5, time = 1)
public class MethodBench {
  private static final int PAIRS = 8;
  private static final int ROWS = 64;
  private static final int VOCABULARY = 32000;
  private static final long SEED = 5;
  // Shifts of a statistic of either sign whose effect on the loss is compared with a coefficient:
  // large enough for floats, small beside the width of the logistic function.
  private static final float SHIFT = 0.0625f;

  /** Forget loss and retain loss. */
  @Param({
    "GA", "GA+GD", "GA+KL", "GA+AP", "NPO", "NPO+GD", "NPO+KL", "NPO+AP", "DPO", "DPO+GD",
    "DPO+KL", "DPO+AP", "IDK", "IDK+GD", "IDK+KL", "IDK+AP", "ME", "ME+GD", "ME+KL", "ME+AP"
  })
  public String method;

  private Method objective;
  private float[] statistics;
  private List<Sequence> sequences;

  /** Rows of a call: the score per row. */
  @State(Scope.Thread)
  @AuxCounters(AuxCounters.Type.OPERATIONS)
  public static class PerUnit {
    /** As JMH reads it. */
    public long rows;
  }

  /** Makes statistics that logits could have, and checks loss and coefficients. */
  @Setup
  public void open() {
    objective = Models.method(method);
    List<Use> uses = objective.uses();
    int count = uses.size() * PAIRS;
    statistics = new float[count * ROWS * RowStatistics.COLUMNS];
    sequences = new ArrayList<>();
    List<PlainLoss.Facts> facts = new ArrayList<>();
    for (int s = 0; s < count; s++) {
      PlainLoss.Facts f = sequence(s, uses.get(s % uses.size()), s / uses.size());
      facts.add(f);
      sequences.add(new Sequence(f.role(), f.pair(), s * ROWS, ROWS, f.referenceNll()));
    }
    Check.near(method + "'s loss", evaluate().loss(), PlainLoss.of(method, facts), 1e-9);
    for (int s = 0; s < count; s++) {
      checkCoefficient(s * ROWS + s % ROWS, uses.get(s % uses.size()));
    }
  }

  private PlainLoss.Facts sequence(int index, Use use, int pair) {
    double[] nll = new double[ROWS];
    double[] uniformKl = new double[ROWS];
    double[] kl = new double[ROWS];
    double sum = 0;
    for (int i = 0; i < ROWS; i++) {
      int row = index * ROWS + i;
      int at = row * RowStatistics.COLUMNS;
      float label = (float) (8 * CounterRng.uniform(SEED, row, 0) - 4);
      float others = (float) (4 + 4 * CounterRng.uniform(SEED, row, 1));
      float lse = (float) StrictMath.log(StrictMath.exp(label) + StrictMath.exp(others));
      float mean = (float) (CounterRng.uniform(SEED, row, 2) - 8);
      float divergence = (float) CounterRng.uniform(SEED, row, 3);
      statistics[at + RowStatistics.LABEL] = label;
      statistics[at + RowStatistics.LSE_OTHERS] = others;
      statistics[at + RowStatistics.LSE] = lse;
      statistics[at + RowStatistics.MEAN] = mean;
      statistics[at + RowStatistics.KL] = divergence;
      nll[i] = StrictMath.log1p(StrictMath.exp((double) others - label));
      uniformKl[i] = (double) lse - mean - StrictMath.log(VOCABULARY);
      kl[i] = divergence;
      sum += nll[i];
    }
    double referenceNll = sum + 6 * CounterRng.uniform(SEED, index, 4) - 3;
    return new PlainLoss.Facts(use.role(), pair, nll, uniformKl, kl, referenceNll);
  }

  /** The loss moves with a row's scalar as the row's coefficient says. */
  private void checkCoefficient(int row, Use use) {
    int at = row * RowStatistics.COLUMNS;
    int column =
        switch (use.kind()) {
          case NLL -> RowStatistics.LSE_OTHERS;
          case UNIFORM_KL -> RowStatistics.LSE;
          case REFERENCE_KL -> RowStatistics.KL;
          default -> throw new IllegalStateException("no method has rows " + use.kind());
        };
    double coefficient = coefficients()[row];
    float middle = statistics[at + column];
    double[] loss = new double[2];
    double[] scalar = new double[2];
    for (int side = 0; side < 2; side++) {
      statistics[at + column] = middle + (side == 0 ? -SHIFT : SHIFT);
      RowStatistics rows = new RowStatistics(statistics, VOCABULARY);
      loss[side] = evaluate().loss();
      scalar[side] =
          switch (use.kind()) {
            case NLL -> rows.nll(row);
            case UNIFORM_KL -> rows.uniformKl(row);
            default -> rows.kl(row);
          };
    }
    statistics[at + column] = middle;
    double slope = (loss[1] - loss[0]) / (scalar[1] - scalar[0]);
    Check.that(
        "a coefficient is the loss's slope: " + coefficient + " and " + slope,
        Math.abs(slope - coefficient) <= 1e-3 * Math.abs(coefficient) + 1e-9);
  }

  private MethodStep evaluate() {
    MethodStep step = objective.begin(Totals.of(sequences));
    step.add(new RowStatistics(statistics, VOCABULARY), sequences);
    return step;
  }

  private double[] coefficients() {
    return objective
        .begin(Totals.of(sequences))
        .add(new RowStatistics(statistics, VOCABULARY), sequences);
  }

  @Benchmark
  @Shape("MethodStep: loss and coefficients of 8 sequences of 64 rows for each role it needs")
  public void evaluate(PerUnit units, Blackhole hole) {
    MethodStep step = objective.begin(Totals.of(sequences));
    hole.consume(step.add(new RowStatistics(statistics, VOCABULARY), sequences));
    hole.consume(step.loss());
    units.rows += statistics.length / RowStatistics.COLUMNS;
  }
}
