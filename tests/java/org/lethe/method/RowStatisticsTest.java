package org.lethe.method;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;

import org.junit.jupiter.api.Test;
import org.lethe.InternalFaultException;

class RowStatisticsTest {
  private static final double ULPS = 1e-15;

  private static final float INFINITY = Float.POSITIVE_INFINITY;

  /** One row over 4 tokens with these columns 0 to 5. */
  private static RowStatistics row(
      float lse, float label, float others, float mean, float ez, float max) {
    float[] columns = {lse, label, others, mean, ez, max, 3, 2, 0.25f, 7, 0.5f, 0.75f, 1};
    return new RowStatistics(columns, 4);
  }

  @Test
  void readsTheColumnsOfEachRow() {
    float[] values = new float[2 * RowStatistics.COLUMNS];
    float[] second = {5, 1, 4.5f, 2, -0.5f, 4, 3, 2, 0.25f, 7, 0.5f, 0.75f, 1};
    System.arraycopy(second, 0, values, RowStatistics.COLUMNS, second.length);
    RowStatistics rows = new RowStatistics(values, 4);
    assertEquals(2, rows.rows());
    assertEquals(4, rows.vocabulary());
    assertEquals(StrictMath.log1p(StrictMath.exp(3.5)), rows.nll(1), 4 * ULPS);
    assertEquals(3 - StrictMath.log(4), rows.uniformKl(1), 4 * ULPS);
    assertEquals(1.5, rows.entropy(1));
    assertEquals(StrictMath.log(4) - 1.5, rows.klUniform(1));
    assertEquals(3, rows.argmax(1));
    assertEquals(2, rows.rank(1));
    assertEquals(0.25, rows.kl(1));
    assertEquals(7.0, rows.meanSquaredLog(1));
    values[RowStatistics.COLUMNS] = 99;
    assertEquals(3 - StrictMath.log(4), rows.uniformKl(1), 4 * ULPS);
  }

  @Test
  void nllOfAPeakedRowDoesNotRoundToZero() {
    // z = (40, 0, 0, 0): in float the lse equals the label's logit.
    RowStatistics rows = row(40, 40, (float) StrictMath.log(3), 10, 0, 40);
    double others = (float) StrictMath.log(3);
    assertEquals(1, rows.nll(0) / StrictMath.exp(others - 40), 4 * ULPS);
    assertEquals(40 - others, row(40, 0, 40, 10, 0, 40).nll(0), 1.1);
  }

  @Test
  void whatIsNotFiniteStays() {
    assertEquals(Double.POSITIVE_INFINITY, row(1, -INFINITY, 1, 0, 0, 1).nll(0));
    assertEquals(Double.NaN, row(INFINITY, INFINITY, 1, INFINITY, 0, INFINITY).nll(0));
    assertEquals(Double.NaN, row(INFINITY, INFINITY, 1, INFINITY, 0, INFINITY).uniformKl(0));
    assertEquals(Double.NaN, row(INFINITY, INFINITY, 1, INFINITY, 0, INFINITY).klUniform(0));
    assertEquals(Double.NaN, row(Float.NaN, 1, 1, 1, 1, 1).nll(0));
    assertEquals(Double.NaN, row(1, Float.NaN, 1, 1, 1, 1).nll(0));
    assertEquals(Double.NaN, row(-INFINITY, -INFINITY, -INFINITY, 1, 1, 1).nll(0));
    assertEquals(Double.POSITIVE_INFINITY, row(1, 1, 1, -INFINITY, 0, 1).uniformKl(0));
    assertEquals(0.0, row(1, 1, -INFINITY, 1, 0, 1).nll(0), "the only token there is");
  }

  @Test
  void sequenceNllIsTheRowsSum() {
    float[] values = new float[3 * RowStatistics.COLUMNS];
    for (int row = 0; row < 3; row++) {
      values[row * RowStatistics.COLUMNS + RowStatistics.LSE_OTHERS] = row;
    }
    RowStatistics rows = new RowStatistics(values, 2);
    assertEquals(
        rows.nll(1) + rows.nll(2), rows.nll(new Sequence(Role.FORGET, 0, 1, 2, Double.NaN)));
    assertEquals(0.0, rows.nll(new Sequence(Role.FORGET, 0, 3, 0, Double.NaN)));
  }

  @Test
  void refusesAHalfRow() {
    assertThrows(InternalFaultException.class, () -> new RowStatistics(new float[14], 4));
    assertThrows(InternalFaultException.class, () -> new RowStatistics(new float[13], 0));
  }
}
