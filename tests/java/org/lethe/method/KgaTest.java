package org.lethe.method;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.util.ArrayList;
import java.util.List;
import java.util.Locale;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.EnumSource;

/** KGA from its divergences, against its formula and its differences, on both sides of the gap. */
class KgaTest {
  private static final int KL = 8;
  private static final int COLUMNS = 13;
  private static final int VOCABULARY = 7;
  private static final int[] LENGTHS = {3, 1, 4};
  // The objective is piecewise linear in the divergences: differences are exact up to rounding.
  private static final double TOLERANCE = 1e-6;

  private static Kga kga(Reduction reduction) {
    return new Kga(Positions.ALL, reduction, Kga.Direction.NEW_TO_ORIGINAL);
  }

  private static double reduce(Reduction reduction, float[] kl, int first) {
    double mean = 0;
    int rows = 0;
    for (int length : LENGTHS) {
      double sum = 0;
      for (int i = 0; i < length; i++) {
        sum += kl[first + rows + i];
      }
      mean += reduction == Reduction.SEQUENCE_MEAN ? sum / length : sum;
      rows += length;
    }
    return mean / (reduction == Reduction.TOKEN_MEAN ? rows : LENGTHS.length);
  }

  private record Result(double loss, double[] coefficients) {}

  private static Result run(Kga kga, float[] kl) {
    float[] values = new float[kl.length * COLUMNS];
    for (int row = 0; row < kl.length; row++) {
      values[row * COLUMNS + KL] = kl[row];
    }
    RowStatistics rows = new RowStatistics(values, VOCABULARY);
    List<Sequence> sequences = new ArrayList<>();
    int next = 0;
    for (Use use : kga.uses()) {
      for (int pair = 0; pair < LENGTHS.length; pair++) {
        sequences.add(new Sequence(use, pair, next, LENGTHS[pair], Double.NaN));
        next += LENGTHS[pair];
      }
    }
    MethodStep step = new Method("KGA", List.of(new Weighted(1, kga))).begin(Totals.of(sequences));
    step.measure(rows, sequences);
    step.measured(step.measured());
    double[] coefficients = step.add(rows, sequences);
    return new Result(step.loss(), coefficients);
  }

  @ParameterizedTest
  @EnumSource
  void lossAndSlopesAreThoseOfTheFormula(Reduction reduction) {
    Kga kga = kga(reduction);
    for (float level : new float[] {0.25f, 4f}) {
      float[] kl = new float[16];
      for (int i = 0; i < kl.length; i++) {
        // The second half are the gap's rows, about 1 each.
        kl[i] = (i < 8 ? level : 1) * (1 + 0.0625f * (i % 5));
      }
      Result found = run(kga, kl);
      double difference = reduce(reduction, kl, 0) - reduce(reduction, kl, 8);
      assertEquals(Math.abs(difference), found.loss(), TOLERANCE, reduction + " at " + level);
      assertEquals(level > 1, difference > 0);
      for (int row = 0; row < kl.length; row++) {
        if (row >= 8) {
          assertEquals(0, found.coefficients()[row], "the gap is a constant");
          continue;
        }
        float[] moved = kl.clone();
        moved[row] += 0.125f;
        double slope = (run(kga, moved).loss() - found.loss()) / 0.125;
        assertEquals(slope, found.coefficients()[row], TOLERANCE, "row " + row);
        assertTrue(Math.abs(slope) > 0.01);
      }
    }
  }

  @ParameterizedTest
  @EnumSource
  void theGapsDirectionIsTheRowsKind(Kga.Direction direction) {
    Use gap = new Kga(Positions.ALL, Reduction.SEQUENCE_SUM, direction).uses().get(1);
    assertEquals(
        direction == Kga.Direction.NEW_TO_ORIGINAL ? RowKind.REFERENCE_KL : RowKind.KL_REFERENCE,
        gap.kind());
    assertEquals(Role.NEW, gap.role());
    assertEquals("new", gap.view().toLowerCase(Locale.ROOT));
    assertTrue(!gap.sources().trained());
  }
}
