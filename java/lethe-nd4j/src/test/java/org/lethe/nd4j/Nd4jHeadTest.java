package org.lethe.nd4j;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.Map;
import java.util.Random;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.EnumSource;
import org.lethe.UserException;
import org.lethe.kernels.Backend;
import org.lethe.method.Method;
import org.lethe.method.MethodConfig;
import org.lethe.method.MethodStep;
import org.lethe.method.Methods;
import org.lethe.method.Role;
import org.lethe.method.RowKind;
import org.lethe.method.RowStatistics;
import org.lethe.method.Sequence;
import org.lethe.method.Totals;
import org.nd4j.autodiff.samediff.SDVariable;
import org.nd4j.autodiff.samediff.SameDiff;
import org.nd4j.linalg.api.buffer.DataType;
import org.nd4j.linalg.api.ndarray.INDArray;
import org.nd4j.linalg.factory.Nd4j;
import org.nd4j.linalg.indexing.NDArrayIndex;

class Nd4jHeadTest {
  private static final int N = 7;
  private static final int D = 24;
  // Not a multiple of 8, so that rows have a tail.
  private static final int V = 103;

  /** fp32 sums of 103 products, then of 24: some 1e-6 of the norm. */
  private static final double SINGLE = 1e-5;

  /** bf16 keeps 8 bits: half a unit of the last is 2^-9 of each number of a row's gradient. */
  private static final double BRAIN = 1.0 / 256;

  private final INDArray hidden = normal(1, 0.7, N, D);
  private final INDArray weight = normal(2, 0.5, V, D);

  private static INDArray normal(long seed, double deviation, int rows, int columns) {
    Random random = new Random(seed);
    float[] values = new float[rows * columns];
    for (int i = 0; i < values.length; i++) {
      values[i] = (float) (deviation * random.nextGaussian());
    }
    return Nd4j.createFromArray(values).reshape('c', rows, columns);
  }

  /** Rows out of order, one source twice, one not at all; references among the sources. */
  private static List<HeadRow> rows(RowKind kind) {
    boolean compares = kind == RowKind.REFERENCE_KL || kind == RowKind.KL_REFERENCE;
    List<HeadRow> rows = new ArrayList<>();
    for (int source : new int[] {4, 0, 2, 4, 6}) {
      rows.add(
          compares
              ? HeadRow.against(source, (source + 1) % N, kind)
              : HeadRow.of(source, (source * 17 + 5) % V, kind));
    }
    return rows;
  }

  private static double scalar(RowStatistics statistics, RowKind kind, int row) {
    return switch (kind) {
      case STATISTICS -> 0;
      case NLL -> statistics.nll(row);
      case UNIFORM_KL -> statistics.uniformKl(row);
      case KL_UNIFORM -> statistics.klUniform(row);
      case REFERENCE_KL, KL_REFERENCE, UNIFORM_KL_EPS -> statistics.kl(row);
      case LOGIT_MARGIN -> statistics.logitMargin(row);
    };
  }

  private static void assertClose(double[][] expected, INDArray actual, double tolerance) {
    double[][] values = actual.castTo(DataType.DOUBLE).toDoubleMatrix();
    double error = 0;
    double norm = 0;
    for (int i = 0; i < expected.length; i++) {
      for (int j = 0; j < expected[i].length; j++) {
        error += Math.pow(values[i][j] - expected[i][j], 2);
        norm += Math.pow(expected[i][j], 2);
      }
    }
    assertTrue(
        Math.sqrt(error) <= tolerance * Math.sqrt(norm),
        Math.sqrt(error) + " of " + Math.sqrt(norm));
  }

  @ParameterizedTest
  @EnumSource(value = RowKind.class, mode = EnumSource.Mode.EXCLUDE, names = "UNIFORM_KL_EPS")
  void statisticsAndGradientAreThoseOfPlainArithmetic(RowKind kind) {
    List<HeadRow> rows = rows(kind);
    double[] coefficient = {1, -0.5, 0.25, 2, 1.5};
    HeadArithmetic plain = new HeadArithmetic(hidden, weight);
    INDArray dHidden = Nd4j.valueArrayOf(new long[] {N, D}, 77f);
    try (Backend backend = Backend.open("cpu", 2);
        Nd4jHead head = new Nd4jHead(backend, weight, 8)) {
      RowStatistics statistics = head.forward(hidden, rows);
      assertEquals(rows.size(), statistics.rows());
      for (int i = 0; i < rows.size(); i++) {
        double expected = plain.scalar(rows.get(i));
        assertEquals(expected, scalar(statistics, kind, i), SINGLE * (1 + Math.abs(expected)));
        if (rows.get(i).label() >= 0) {
          assertEquals(plain.nll(rows.get(i)), statistics.nll(i), SINGLE * 10);
        }
      }
      head.backward(coefficient, dHidden);
    }
    assertClose(plain.gradient(rows, coefficient), dHidden, SINGLE);
    // A source that no row names is overwritten too.
    assertEquals(0, dHidden.getRow(1).norm2Number().doubleValue());
  }

  @ParameterizedTest
  @EnumSource(value = RowKind.class, mode = EnumSource.Mode.EXCLUDE, names = "UNIFORM_KL_EPS")
  void brainFloatsAreRoundedOnce(RowKind kind) {
    List<HeadRow> rows = rows(kind);
    double[] coefficient = {1, -0.5, 0.25, 2, 1.5};
    INDArray h = hidden.castTo(DataType.BFLOAT16);
    INDArray w = weight.castTo(DataType.BFLOAT16);
    HeadArithmetic plain = new HeadArithmetic(h, w);
    INDArray dHidden = Nd4j.create(DataType.BFLOAT16, N, D);
    try (Backend backend = Backend.open("cpu", 2);
        Nd4jHead head = new Nd4jHead(backend, w, 8)) {
      RowStatistics statistics = head.forward(h, rows);
      for (int i = 0; i < rows.size(); i++) {
        double expected = plain.scalar(rows.get(i));
        assertEquals(expected, scalar(statistics, kind, i), BRAIN * (1 + Math.abs(expected)));
      }
      head.backward(coefficient, dHidden);
    }
    assertClose(plain.gradient(rows, coefficient), dHidden, 2 * BRAIN);
  }

  @Test
  void aViewIsReadAndWrittenWhereItStands() {
    // Hidden states inside a larger array, the gradient inside another.
    INDArray larger = Nd4j.valueArrayOf(new long[] {N + 4, D}, 9f);
    INDArray view = larger.get(NDArrayIndex.interval(3, 3 + N), NDArrayIndex.all());
    view.assign(hidden);
    INDArray gradients = Nd4j.valueArrayOf(new long[] {2, N, D}, 5f);
    INDArray slot = gradients.get(NDArrayIndex.point(1), NDArrayIndex.all(), NDArrayIndex.all());
    List<HeadRow> rows = rows(RowKind.NLL);
    double[] ones = {1, 1, 1, 1, 1};
    try (Backend backend = Backend.open("cpu", 2);
        Nd4jHead head = new Nd4jHead(backend, weight, 5)) {
      head.forward(view, rows);
      head.backward(ones, slot);
      assertClose(new HeadArithmetic(hidden, weight).gradient(rows, ones), slot, SINGLE);
      assertEquals(5f, gradients.getFloat(0, N - 1, D - 1));
      assertEquals(9f, larger.getFloat(2, D - 1));
      // The gradient in the place of the hidden states themselves.
      head.backward(ones, view);
      assertArrayEquals(slot.ravel().toFloatVector(), view.ravel().toFloatVector());
      assertEquals(9f, larger.getFloat(2, D - 1));
      assertEquals(9f, larger.getFloat(3 + N, 0));
    }
  }

  @Test
  void sameDiffFindsTheSameGradient() {
    int[] labels = new int[N];
    Arrays.setAll(labels, i -> (i * 13 + 3) % V);
    SameDiff graph = SameDiff.create();
    SDVariable h = graph.var("h", hidden.castTo(DataType.DOUBLE));
    SDVariable w = graph.var("w", weight.castTo(DataType.DOUBLE));
    SDVariable logits = h.mmul(w.permute(1, 0));
    SDVariable logP = graph.nn.logSoftmax(logits);
    INDArray chosen = Nd4j.zeros(DataType.DOUBLE, N, V);
    for (int i = 0; i < N; i++) {
      chosen.putScalar(i, labels[i], -1.0 / N);
    }
    SDVariable loss = logP.mul(graph.constant(chosen)).sum("loss");
    loss.markAsLoss();
    Map<String, INDArray> expected = graph.calculateGradients(Map.of(), "h", "w");

    INDArray dHidden = Nd4j.create(DataType.FLOAT, N, D);
    INDArray dWeight = Nd4j.create(DataType.FLOAT, V, D);
    double[] mean = new double[N];
    Arrays.fill(mean, 1.0 / N);
    try (Backend backend = Backend.open("cpu", 2);
        Nd4jHead head = new Nd4jHead(backend, weight, N)) {
      List<HeadRow> rows = HeadRow.of(RowKind.NLL, Nd4j.createFromArray(labels));
      RowStatistics statistics = head.forward(hidden, rows);
      double nll = 0;
      for (int i = 0; i < N; i++) {
        nll += statistics.nll(i) / N;
      }
      assertEquals(loss.eval().getDouble(0), nll, SINGLE);
      head.backward(mean, dHidden);
      assertClose(expected.get("h").toDoubleMatrix(), dHidden, SINGLE);
      dHidden.assign(0);
      head.backward(mean, hidden, dHidden, dWeight);
    }
    assertClose(expected.get("h").toDoubleMatrix(), dHidden, SINGLE);
    assertClose(expected.get("w").toDoubleMatrix(), dWeight, SINGLE);
  }

  @Test
  void aTrainedHeadAddsToItsGradientAndFollowsItsWeight() {
    List<HeadRow> rows = rows(RowKind.UNIFORM_KL);
    double[] coefficient = {1, -0.5, 0.25, 2, 1.5};
    INDArray own = weight.dup();
    INDArray dHidden = Nd4j.create(DataType.FLOAT, N, D);
    INDArray dWeight = Nd4j.create(DataType.FLOAT, V, D);
    try (Backend backend = Backend.open("cpu", 2);
        Nd4jHead head = new Nd4jHead(backend, own, 5)) {
      head.statistics(hidden, rows);
      head.backward(coefficient, hidden, dHidden, dWeight);
      HeadArithmetic plain = new HeadArithmetic(hidden, own);
      assertClose(plain.weightGradient(rows, coefficient), dWeight, SINGLE);
      assertClose(plain.gradient(rows, coefficient), dHidden, SINGLE);
      INDArray once = dWeight.dup();
      head.backward(coefficient, hidden, dHidden, dWeight);
      assertClose(once.mul(2).castTo(DataType.DOUBLE).toDoubleMatrix(), dWeight, SINGLE);
      own.muli(0.5).addi(0.125);
      RowStatistics after = head.statistics(hidden, rows);
      assertEquals(new HeadArithmetic(hidden, own).scalar(rows.get(1)), after.uniformKl(1), SINGLE);
    }
  }

  @Test
  void aMethodOfLethesTakesTheRows() {
    // One forget sequence of three rows, one retain sequence of four.
    List<HeadRow> rows = HeadRow.of(RowKind.NLL, Nd4j.createFromArray(5L, 9, 2, 40, 41, 42, 102));
    List<Sequence> sequences =
        List.of(new Sequence(Role.FORGET, 0, 0, 3, 11.0), new Sequence(Role.RETAIN, 0, 3, 4, 0));
    Method method = Methods.create(MethodConfig.of("NPO+GD"));
    INDArray dHidden = Nd4j.create(DataType.FLOAT, N, D);
    HeadArithmetic plain = new HeadArithmetic(hidden, weight);
    try (Backend backend = Backend.open("cpu", 2);
        Nd4jHead head = new Nd4jHead(backend, weight, N)) {
      MethodStep step = method.begin(Totals.of(sequences));
      double[] coefficient = step.add(head.forward(hidden, rows), sequences);
      head.backward(coefficient, dHidden);
      assertClose(plain.gradient(rows, coefficient), dHidden, SINGLE);
      // (2/β) log(1 + exp(β (reference nll − nll))) + mean retain nll, β = 0.1.
      double forget = rows.subList(0, 3).stream().mapToDouble(plain::nll).sum();
      double retain = rows.subList(3, N).stream().mapToDouble(plain::nll).sum() / 4;
      double npo = 20 * Math.log1p(Math.exp(0.1 * (11.0 - forget)));
      assertEquals(npo + retain, step.loss(), SINGLE * 100);
    }
  }

  @Test
  void labelsBelowZeroAreLeftOut() {
    List<HeadRow> rows =
        HeadRow.of(RowKind.NLL, Nd4j.createFromArray(3, -100, 0, -1).castTo(DataType.INT64));
    assertEquals(List.of(HeadRow.of(0, 3, RowKind.NLL), HeadRow.of(2, 0, RowKind.NLL)), rows);
    INDArray pairs = Nd4j.createFromArray(1, 2, 3, 4, 5, 6).reshape(3, 2);
    assertEquals(
        List.of(2, 4, 6),
        HeadRow.of(RowKind.NLL, pairs.getColumn(1)).stream().map(HeadRow::label).toList());
    assertMessage("rank 1", () -> HeadRow.of(RowKind.NLL, pairs));
    assertMessage("INT32", () -> HeadRow.of(RowKind.NLL, Nd4j.createFromArray(1f, 2f)));
    assertMessage("vocabulary", () -> HeadRow.of(RowKind.NLL, Nd4j.createFromArray(1L << 40, 2L)));
  }

  @Test
  void badInputSaysWhatToDo() {
    INDArray fits = Nd4j.create(DataType.FLOAT, N, D);
    double[] five = new double[5];
    try (Backend backend = Backend.open("cpu", 1);
        Nd4jHead head = new Nd4jHead(backend, weight, 5)) {
      assertMessage("call forward", () -> head.backward(five, fits));
      assertMessage("call statistics", () -> head.backward(five, fits, fits, fits));
      assertMessage("split", () -> head.forward(hidden, List.of()));
      List<HeadRow> six = new ArrayList<>(rows(RowKind.NLL));
      six.add(HeadRow.of(1, 1, RowKind.NLL));
      assertMessage("split", () -> head.forward(hidden, six));
      assertRow(head, HeadRow.of(N, 0, RowKind.NLL), "source 7");
      assertRow(head, HeadRow.of(0, V, RowKind.UNIFORM_KL), "label 103");
      assertRow(head, HeadRow.of(0, HeadRow.NONE, RowKind.NLL), "label -1");
      assertRow(head, HeadRow.of(0, 1, RowKind.KL_REFERENCE), "reference -1");
      assertMessage("rank 2", () -> head.forward(hidden.ravel(), rows(RowKind.NLL)));
      assertMessage(
          "FLOAT [N, 24]", () -> head.forward(hidden.castTo(DataType.BFLOAT16), rows(RowKind.NLL)));
      assertMessage(
          "dup('c')", () -> head.forward(hidden.transpose().dup().transpose(), rows(RowKind.NLL)));
      head.forward(hidden, rows(RowKind.REFERENCE_KL));
      assertMessage("one per row", () -> head.backward(new double[4], fits));
      assertMessage("[7, 24]", () -> head.backward(five, Nd4j.create(DataType.FLOAT, N, D + 1)));
      INDArray dWeight = Nd4j.create(DataType.FLOAT, V, D);
      assertMessage("no reference", () -> head.backward(five, hidden, fits, dWeight));
      assertMessage("FLOAT [103, 24]", () -> head.backward(five, hidden, fits, fits));
      head.statistics(hidden, rows(RowKind.NLL));
      assertMessage("call forward", () -> head.backward(five, fits));
      assertMessage(
          "FLOAT or BFLOAT16",
          () -> new Nd4jHead(backend, weight.castTo(DataType.INT32), 5).close());
      assertMessage("at least 1", () -> new Nd4jHead(backend, weight, 0).close());
    }
  }

  private void assertRow(Nd4jHead head, HeadRow row, String part) {
    assertMessage(part, () -> head.forward(hidden, List.of(row)));
  }

  private static void assertMessage(String part, org.junit.jupiter.api.function.Executable call) {
    UserException e = assertThrows(UserException.class, call);
    assertTrue(e.getMessage().contains(part), e.getMessage());
  }
}
