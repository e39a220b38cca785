package org.lethe.method;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.util.ArrayList;
import java.util.List;
import java.util.Random;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.ValueSource;
import org.lethe.InternalFaultException;
import org.lethe.method.Steps.Step;

class MethodStepTest {
  private static final double NONE = Double.NaN;

  /** Rows with these label nlls (as LSE_OTHERS − LABEL), the rest of the columns 0. */
  private static RowStatistics rows(double... margins) {
    double[] values = new double[margins.length * RowStatistics.COLUMNS];
    for (int row = 0; row < margins.length; row++) {
      values[row * RowStatistics.COLUMNS + RowStatistics.LSE_OTHERS] = margins[row];
    }
    return new RowStatistics(values, 4);
  }

  private static MethodStep whole(String name, RowStatistics rows, List<Sequence> sequences) {
    MethodStep step = Methods.create(MethodConfig.of(name)).begin(Totals.of(sequences));
    step.add(rows, sequences);
    return step;
  }

  @ParameterizedTest
  @ValueSource(strings = {"NPO", "DPO"})
  void beginsAtTwoOverBetaTimesLogTwoToTheBit(String name) {
    Random random = new Random(3);
    for (double beta : new double[] {0.1, 0.05, 0.7, 2.5}) {
      Method method = Methods.create(MethodConfig.of(name).withBeta(beta));
      for (int n = 1; n <= 64; n++) {
        double expected = 2 / beta * StrictMath.log(2);
        assertEquals(expected, atReference(method, n, n, random), name + " " + beta + " " + n);
        assertEquals(expected, atReference(method, n, 3, random), name + " " + beta + " " + n);
      }
    }
  }

  /** The loss of n pairs whose reference is the model itself, in micro-batches of so many pairs. */
  private static double atReference(Method method, int n, int pairsAtOnce, Random random) {
    List<List<Sequence>> batches = new ArrayList<>();
    List<RowStatistics> statistics = new ArrayList<>();
    List<Sequence> all = new ArrayList<>();
    for (int pair = 0; pair < n; pair += pairsAtOnce) {
      List<Sequence> batch = new ArrayList<>();
      RowStatistics rows = rows(random.doubles(8L * pairsAtOnce, -30, 30).toArray());
      int row = 0;
      for (int p = pair; p < Math.min(n, pair + pairsAtOnce); p++) {
        for (Use use : method.uses()) {
          int length = 1 + random.nextInt(4);
          double nll = rows.nll(new Sequence(use.role(), p, row, length, NONE));
          batch.add(new Sequence(use.role(), p, row, length, nll));
          row += length;
        }
      }
      batches.add(batch);
      statistics.add(rows);
      all.addAll(batch);
    }
    MethodStep step = method.begin(Totals.of(all));
    for (int i = 0; i < batches.size(); i++) {
      step.add(statistics.get(i), batches.get(i));
    }
    return step.loss();
  }

  @Test
  void microBatchesChangeNoBit() {
    long seed = 100;
    for (MethodConfig config : Steps.everyMethod()) {
      Method method = Methods.create(config);
      Step step = Steps.random(method, 5, seed++);
      Totals totals = Totals.of(step.sequences());
      MethodStep whole = Steps.measured(method, step, totals);
      double[] coefficients = whole.add(step.statistics(), step.sequences());
      MethodStep cut = method.begin(totals);
      List<List<Integer>> cuts = List.of(List.of(2, 1), List.of(0));
      for (List<Integer> pairs : cuts) {
        Step part = Steps.only(step, pairs);
        cut.measure(part.statistics(), part.sequences());
      }
      cut.measured(cut.measured());
      for (List<Integer> pairs : cuts) {
        Step part = Steps.only(step, pairs);
        double[] partial = cut.add(part.statistics(), part.sequences());
        for (Sequence s : part.sequences()) {
          int from =
              step.sequences().stream()
                  .filter(t -> t.use().equals(s.use()) && t.pair() == s.pair())
                  .findFirst()
                  .orElseThrow()
                  .firstRow();
          for (int i = 0; i < s.rows(); i++) {
            assertEquals(coefficients[from + i], partial[s.firstRow() + i]);
          }
        }
      }
      assertEquals(whole.loss(), cut.loss(), config.toString());
      assertEquals(whole.parts(), cut.parts(), config.toString());
    }
  }

  @Test
  void lossIsTheWeightedSumOfItsParts() {
    Method method = Methods.create(MethodConfig.of("ga+gd").withCoefficients(0.5, 3));
    List<Sequence> sequences =
        List.of(new Sequence(Role.FORGET, 0, 0, 1, NONE), new Sequence(Role.RETAIN, 0, 2, 2, NONE));
    RowStatistics rows = rows(1, 50, 2, 3);
    MethodStep step = method.begin(Totals.of(sequences));
    assertArrayEquals(new double[] {-0.5, 0, 1.5, 1.5}, step.add(rows, sequences));
    assertEquals(List.of("GA", "GD"), List.copyOf(step.parts().keySet()));
    assertEquals(-rows.nll(0), step.parts().get("GA"));
    assertEquals((rows.nll(2) + rows.nll(3)) / 2, step.parts().get("GD"), 1e-15);
    assertEquals(0.5 * step.parts().get("GA") + 3 * step.parts().get("GD"), step.loss());
  }

  @Test
  void rowsThatAreCertainStillCount() {
    // All but e^-40 of the probability on the label: where unlearning starts.
    List<Sequence> sequences = List.of(new Sequence(Role.FORGET, 0, 0, 2, 0));
    double nll = 2 * StrictMath.exp(-40);
    assertEquals(1, whole("GA", rows(-40, -40), sequences).loss() / (-nll / 2), 1e-15);
    Method npo = Methods.create(MethodConfig.of("NPO").withBeta(1e10));
    MethodStep step = npo.begin(Totals.of(sequences));
    double[] coefficients = step.add(rows(-40, -40), sequences);
    double odds = StrictMath.exp(-1e10 * nll);
    assertEquals(-2 * odds / (1 + odds), coefficients[0], 1e-15);
    assertTrue(coefficients[0] > -1, "the sum of both rows is seen");
  }

  @Test
  void logisticLossesSaturateWithoutOverflow() {
    for (double far : new double[] {1e4, -1e4}) {
      List<Sequence> npo = List.of(new Sequence(Role.FORGET, 0, 0, 1, -far / 0.1));
      MethodStep step = Methods.create(MethodConfig.of("NPO")).begin(Totals.of(npo));
      double[] coefficients = step.add(rows(0), npo);
      double expected = far > 0 ? 0 : 2 / 0.1 * (1e4 - 0.1 * StrictMath.log(2));
      assertEquals(expected, step.loss(), 1e-9);
      assertEquals(far > 0 ? 0 : -2, coefficients[0], 1e-15);
    }
  }

  @Test
  void emptySequencesCountAsSequences() {
    List<Sequence> sequences =
        List.of(new Sequence(Role.FORGET, 0, 0, 0, 0), new Sequence(Role.FORGET, 1, 0, 0, 0));
    assertEquals(20 * StrictMath.log(2), whole("NPO", rows(), sequences).loss());
    List<Sequence> mixed =
        List.of(new Sequence(Role.FORGET, 0, 0, 0, NONE), new Sequence(Role.FORGET, 1, 0, 1, NONE));
    assertEquals(-rows(1).nll(0), whole("GA", rows(1), mixed).loss());
    assertThrows(InternalFaultException.class, () -> whole("GA", rows(), sequences));
  }

  @ParameterizedTest
  @ValueSource(strings = {"GA", "NPO", "DPO", "IDK", "ME", "none+GD", "none+KL", "none+AP"})
  void whatIsNotFiniteReachesTheLoss(String name) {
    Method method = Methods.create(MethodConfig.of(name));
    for (double bad :
        new double[] {Double.NaN, Double.POSITIVE_INFINITY, Double.NEGATIVE_INFINITY}) {
      for (int spoilt = 0; spoilt < method.uses().size(); spoilt++) {
        double[] values = new double[method.uses().size() * RowStatistics.COLUMNS];
        List<Sequence> sequences = new ArrayList<>();
        for (Use use : method.uses()) {
          sequences.add(new Sequence(use.role(), 0, sequences.size(), 1, 1));
        }
        // A row whose logits hold such a number: label and mean follow it, −∞ leaves the rest.
        int at = spoilt * RowStatistics.COLUMNS;
        values[at + RowStatistics.LABEL] = bad;
        values[at + RowStatistics.MEAN] = bad;
        values[at + RowStatistics.LSE] = bad < 0 ? 0 : bad;
        values[at + RowStatistics.KL] = bad < 0 ? -bad : bad;
        MethodStep step = method.begin(Totals.of(sequences));
        step.add(new RowStatistics(values, 4), sequences);
        assertFalse(Double.isFinite(step.loss()), name + " " + bad);
        assertTrue(step.parts().values().stream().noneMatch(Double::isFinite));
      }
    }
  }

  @ParameterizedTest
  @ValueSource(strings = {"NPO", "DPO"})
  void aMissingReferenceReachesTheLoss(String name) {
    List<Sequence> sequences =
        List.of(
            new Sequence(Role.FORGET, 0, 0, 1, NONE), new Sequence(Role.FORGET_IDK, 0, 1, 1, 1));
    assertEquals(Double.NaN, whole(name, rows(0, 0), sequences).loss());
  }

  @Test
  void refusesAStepWithoutARoleThatTheMethodNeeds() {
    List<Sequence> forget = List.of(new Sequence(Role.FORGET, 0, 0, 1, 0));
    List<Sequence> retain = List.of(new Sequence(Role.RETAIN, 0, 0, 1, 0));
    for (String name : List.of("GA", "NPO", "DPO", "IDK", "ME")) {
      assertThrows(InternalFaultException.class, () -> whole(name, rows(0), retain), name);
    }
    for (String name : List.of("none+GD", "none+KL", "none+AP", "DPO", "IDK")) {
      assertThrows(InternalFaultException.class, () -> whole(name, rows(0), forget), name);
    }
  }

  @Test
  void refusesPairsThatAreTornApart() {
    Sequence own = new Sequence(Role.RETAIN, 0, 0, 1, NONE);
    Sequence other = new Sequence(Role.RETAIN, 1, 0, 1, NONE);
    Sequence refusal = new Sequence(Role.RETAIN_IDK, 0, 1, 1, NONE);
    Sequence stranger = new Sequence(Role.RETAIN_IDK, 2, 1, 1, NONE);
    assertThrows(
        InternalFaultException.class,
        () -> whole("none+AP", rows(0, 0), List.of(own, other, refusal)));
    assertThrows(
        InternalFaultException.class, () -> whole("none+AP", rows(0, 0), List.of(own, stranger)));
    assertThrows(
        InternalFaultException.class,
        () -> whole("none+AP", rows(0, 0), List.of(own, other, refusal, refusal)));
    MethodStep step =
        Methods.create(MethodConfig.of("none+AP")).begin(Totals.of(List.of(own, refusal)));
    assertThrows(InternalFaultException.class, () -> step.add(rows(0, 0), List.of(refusal)));
  }

  @Test
  void refusesAStepThatIsIncompleteOrOutsideItsRows() {
    Sequence first = new Sequence(Role.FORGET, 0, 0, 1, 0);
    Sequence second = new Sequence(Role.FORGET, 1, 0, 1, 0);
    MethodStep step =
        Methods.create(MethodConfig.of("NPO")).begin(Totals.of(List.of(first, second)));
    step.add(rows(0), List.of(first));
    assertThrows(InternalFaultException.class, step::loss);
    assertThrows(InternalFaultException.class, step::parts);
    assertThrows(InternalFaultException.class, () -> step.add(rows(), List.of(second)));
    step.add(rows(0), List.of(second));
    assertEquals(20 * StrictMath.log1p(1), step.loss(), 2);
    assertThrows(InternalFaultException.class, () -> new Sequence(Role.FORGET, 0, -1, 1, 0));
  }
}
