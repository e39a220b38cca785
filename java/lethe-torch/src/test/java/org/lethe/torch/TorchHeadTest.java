package org.lethe.torch;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.util.Arrays;
import java.util.Random;
import java.util.function.Supplier;
import org.bytedeco.javacpp.Pointer;
import org.bytedeco.javacpp.PointerScope;
import org.bytedeco.pytorch.BoolOptional;
import org.bytedeco.pytorch.Scalar;
import org.bytedeco.pytorch.Tensor;
import org.bytedeco.pytorch.TensorArrayRefOptional;
import org.bytedeco.pytorch.global.torch;
import org.bytedeco.pytorch.global.torch.ScalarType;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.EnumSource;
import org.junit.jupiter.params.provider.ValueSource;
import org.lethe.UserException;
import org.lethe.kernels.Backend;
import org.lethe.method.RowKind;
import org.lethe.method.RowStatistics;

/** Every kind of row against libtorch's autograd in fp64 of the same loss. */
@SuppressWarnings("try") // Scopes work by being open.
class TorchHeadTest {
  // Not multiples of any vector's width.
  private static final int VOCABULARY = 203;
  private static final int D = 44;
  private static final int ROWS = 19;

  // The project's bound for fp32 against fp64, per tensor.
  private static final double FP32 = 1e-5;
  // On the way to dH four tensors are rounded to bf16: the difference of hidden and reference, the
  // logits' gradient, the row's gradient, and the sum over rows. The inputs are the same bf16
  // numbers on either side; the GEMMs add in fp32.
  private static final double BF16 = 4 * 0x1p-8;

  private Backend backend;
  private PointerScope scope;

  @BeforeEach
  void open() {
    backend = Backend.open("cpu", 2);
    scope = new PointerScope();
  }

  @AfterEach
  void close() {
    scope.close();
    backend.close();
  }

  /** Hidden states, the reference's, a head, labels and coefficients of either sign. */
  private record Case(
      Tensor hidden, Tensor reference, Tensor weight, int[] labels, double[] coefficients) {

    static Case of(int rows, ScalarType type, long seed) {
      Random random = new Random(seed);
      Tensor hidden = Oracle.normal(random, 1, rows, D);
      Tensor reference = hidden.add(Oracle.normal(random, 0.3, rows, D));
      Tensor weight = Oracle.normal(random, 0.4, VOCABULARY, D);
      double[] coefficients = new double[rows];
      for (int i = 0; i < rows; i++) {
        coefficients[i] = (float) (random.nextGaussian() / rows);
      }
      int[] labels = random.ints(rows, 0, VOCABULARY).toArray();
      return new Case(
          hidden.to(type).contiguous(),
          reference.to(type).contiguous(),
          weight.to(type).contiguous(),
          labels,
          coefficients);
    }

    TorchRows rows(RowKind kind) {
      TorchRows rows = new TorchRows();
      for (int i = 0; i < labels.length; i++) {
        rows.add(i, labels[i], kind, TorchRows.needsReference(kind) ? i : -1);
      }
      return rows;
    }

    /** The rows' scalars in fp64, of the leaves given. */
    Tensor values(RowKind kind, Tensor h, Tensor w) {
      Tensor other = torch.linear(reference.to(ScalarType.Double), w.detach());
      return Oracle.values(kind, torch.linear(h, w), other, label());
    }

    private Tensor label() {
      long[] wide = Arrays.stream(labels).asLongStream().toArray();
      return TorchWeights.of(wide, wide.length);
    }

    Tensor loss(Tensor values) {
      float[] c = new float[coefficients.length];
      for (int i = 0; i < c.length; i++) {
        c[i] = (float) coefficients[i];
      }
      return values.mul(TorchWeights.of(c, c.length).to(ScalarType.Double)).sum();
    }
  }

  private static double value(RowStatistics s, RowKind kind, int row) {
    return switch (kind) {
      case STATISTICS -> 0;
      case NLL -> s.nll(row);
      case UNIFORM_KL -> s.uniformKl(row);
      case KL_UNIFORM -> s.klUniform(row);
      case REFERENCE_KL, KL_REFERENCE, UNIFORM_KL_EPS -> s.kl(row);
      case LOGIT_MARGIN -> s.logitMargin(row);
    };
  }

  @ParameterizedTest
  @EnumSource(value = RowKind.class, mode = EnumSource.Mode.EXCLUDE, names = "UNIFORM_KL_EPS")
  void gradientsOfAFrozenHeadAreThoseOfAutograd(RowKind kind) {
    for (int n : new int[] {1, ROWS}) {
      for (ScalarType type : new ScalarType[] {ScalarType.Float, ScalarType.BFloat16}) {
        Case c = Case.of(n, type, 3 + n);
        Tensor h = Oracle.leaf(c.hidden());
        Tensor values = c.values(kind, h, Oracle.leaf(c.weight()));
        c.loss(values).backward();
        try (TorchHead head = TorchHead.frozen(backend, c.weight(), ROWS)) {
          RowStatistics statistics = head.forward(c.hidden(), c.reference(), c.rows(kind));
          Tensor gradient = head.backward(c.coefficients());
          double bound = type == ScalarType.Float ? FP32 : BF16;
          double[] expected = Oracle.doubles(values);
          // A divergence goes with the square of the difference, which storage rounds.
          boolean rounded = type != ScalarType.Float && TorchRows.needsReference(kind);
          for (int row = 0; row < n; row++) {
            double near = rounded ? BF16 * expected[row] : 4 * FP32 * (1 + expected[row]);
            assertEquals(expected[row], value(statistics, kind, row), near);
          }
          if (kind == RowKind.STATISTICS) {
            assertEquals(0, Oracle.norm(gradient));
          } else {
            double error = Oracle.relativeError(gradient, h.grad());
            assertTrue(error <= bound, kind + " of " + type + " differs by " + error);
            assertTrue(type == ScalarType.Float || error > FP32, "bf16 was not used: " + error);
            // One row of the wrong sign must not pass.
            c.coefficients()[n - 1] *= -1;
            double flipped = Oracle.relativeError(head.backward(c.coefficients()), h.grad());
            assertTrue(flipped > 10 * bound, kind + ": a flipped row shows as " + flipped);
          }
        }
      }
    }
  }

  @ParameterizedTest
  @EnumSource(
      value = RowKind.class,
      names = {"NLL", "UNIFORM_KL", "KL_UNIFORM"})
  void gradientsOfATrainedHeadAreThoseOfAutograd(RowKind kind) {
    for (ScalarType type : new ScalarType[] {ScalarType.Float, ScalarType.BFloat16}) {
      Case c = Case.of(ROWS, type, 11);
      Tensor h = Oracle.leaf(c.hidden());
      Tensor w = Oracle.leaf(c.weight());
      c.loss(c.values(kind, h, w)).backward();
      Tensor dWeight = torch.ones(VOCABULARY, D);
      try (TorchHead head = TorchHead.trained(backend, c.weight(), ROWS)) {
        head.forward(c.hidden(), c.rows(kind));
        Tensor gradient = head.backward(c.coefficients(), dWeight);
        double bound = type == ScalarType.Float ? FP32 : BF16;
        double error = Oracle.relativeError(gradient, h.grad());
        assertTrue(error <= bound, kind + " of " + type + " differs by " + error);
        // Added to what was there.
        double weightError = Oracle.relativeError(dWeight.sub(torch.ones(VOCABULARY, D)), w.grad());
        assertTrue(weightError <= bound, kind + ": the weight's differs by " + weightError);
      }
    }
  }

  @Test
  void kindsMixSourcesRepeatAndRowsThatNobodyNamesGetZero() {
    Case c = Case.of(ROWS, ScalarType.Float, 5);
    Tensor h = Oracle.leaf(c.hidden());
    Tensor w = c.weight().to(ScalarType.Double);
    TorchRows rows =
        new TorchRows()
            .add(4, 7, RowKind.NLL)
            .add(2, -1, RowKind.UNIFORM_KL)
            .add(4, 9, RowKind.REFERENCE_KL, 6)
            .add(4, 7, RowKind.NLL);
    double[] coefficients = {0.5, -1.25, 2, 0.25};
    Tensor z = torch.linear(h, w);
    Tensor other = torch.linear(h.detach(), w);
    Tensor label = TorchWeights.of(new long[] {7}, 1);
    Tensor loss =
        Oracle.values(RowKind.NLL, z.narrow(0, 4, 1), null, label)
            .mul(new Scalar(0.75))
            .sub(
                Oracle.values(RowKind.UNIFORM_KL, z.narrow(0, 2, 1), null, label)
                    .mul(new Scalar(1.25)))
            .add(
                Oracle.values(RowKind.REFERENCE_KL, z.narrow(0, 4, 1), other.narrow(0, 6, 1), label)
                    .mul(new Scalar(2.0)))
            .sum();
    loss.backward();
    // As three sequences of one batch, with the reference in the same tensor: nothing is copied.
    try (TorchHead head = TorchHead.frozen(backend, c.weight(), 4)) {
      head.forward(c.hidden().view(1, ROWS, D), rows);
      Tensor gradient = head.backward(coefficients);
      assertArrayEquals(new long[] {1, ROWS, D}, TorchTensors.shape(gradient));
      double error = Oracle.relativeError(gradient.view(ROWS, D), h.grad());
      assertTrue(error <= FP32, "differs by " + error);
      assertEquals(0, Oracle.norm(gradient.narrow(1, 5, ROWS - 5)));
    }
  }

  @ParameterizedTest
  @ValueSource(booleans = {false, true})
  void aModelBelowTheHeadGetsTheSameGradients(boolean flipped) {
    Random random = new Random(17);
    Tensor table = Oracle.normal(random, 1, 31, D);
    Tensor inner = Oracle.normal(random, 0.2, D, D);
    Tensor weight = Oracle.normal(random, 0.4, VOCABULARY, D);
    Tensor ids = TorchWeights.of(random.longs(ROWS, 0, 31).toArray(), ROWS);
    int[] labels = random.ints(ROWS, 0, VOCABULARY).toArray();
    Tensor label = TorchWeights.of(Arrays.stream(labels).asLongStream().toArray(), ROWS);
    Tensor wideTable = Oracle.leaf(table);
    Tensor wideInner = Oracle.leaf(inner);
    Tensor z = torch.linear(model(ids, wideTable, wideInner), weight.to(ScalarType.Double));
    Oracle.values(RowKind.NLL, z, null, label).mean().backward();
    table.set_requires_grad(true);
    inner.set_requires_grad(true);
    try (TorchHead head = TorchHead.frozen(backend, weight, ROWS)) {
      Tensor hidden = model(ids, table, inner);
      head.forward(hidden, TorchRows.of(RowKind.NLL, labels));
      double[] mean = new double[ROWS];
      Arrays.fill(mean, 1.0 / ROWS);
      mean[3] *= flipped ? -1 : 1;
      hidden.backward(head.backward(mean), new BoolOptional(), false, new TensorArrayRefOptional());
    }
    double worst =
        Math.max(
            Oracle.relativeError(table.grad(), wideTable.grad()),
            Oracle.relativeError(inner.grad(), wideInner.grad()));
    assertEquals(flipped, worst > FP32, "differs by " + worst);
  }

  private static Tensor model(Tensor ids, Tensor table, Tensor inner) {
    return torch.tanh(torch.linear(torch.embedding(table, ids), inner));
  }

  @Test
  void aWeightThatChangesIsSeen() {
    Case c = Case.of(ROWS, ScalarType.Float, 23);
    TorchRows rows = c.rows(RowKind.UNIFORM_KL);
    try (TorchHead frozen = TorchHead.frozen(backend, c.weight(), ROWS);
        TorchHead trained = TorchHead.trained(backend, c.weight(), ROWS)) {
      double before = frozen.forward(c.hidden(), rows).uniformKl(0);
      assertEquals(before, trained.forward(c.hidden(), rows).uniformKl(0), FP32 * before);
      c.weight().narrow(0, 0, 100).mul_(new Scalar(1.5));
      frozen.refresh();
      Tensor h = Oracle.leaf(c.hidden());
      double after = Oracle.doubles(c.values(RowKind.UNIFORM_KL, h, Oracle.leaf(c.weight())))[0];
      assertTrue(Math.abs(after - before) > 0.01);
      assertEquals(after, frozen.forward(c.hidden(), rows).uniformKl(0), FP32 * after);
      assertEquals(after, trained.forward(c.hidden(), rows).uniformKl(0), FP32 * after);
    }
  }

  @Test
  void aLoopUnderAScopeLeavesNothingBehind() {
    Case c = Case.of(ROWS, ScalarType.Float, 29);
    TorchRows rows = c.rows(RowKind.KL_REFERENCE);
    TorchHead head;
    // Made inside a scope that ends before the head is used.
    try (PointerScope inner = new PointerScope()) {
      head = TorchHead.frozen(backend, c.weight(), ROWS);
    }
    try {
      double[] first = pass(head, c, rows);
      long bytes = Pointer.totalBytes();
      long count = Pointer.totalCount();
      for (int i = 0; i < 200; i++) {
        assertArrayEquals(first, pass(head, c, rows));
      }
      // Less where the collector has meanwhile found what other tests left.
      assertTrue(Pointer.totalBytes() <= bytes, "grew from " + bytes);
      assertTrue(Pointer.totalCount() <= count, "grew from " + count);
    } finally {
      head.close();
    }
  }

  private static double[] pass(TorchHead head, Case c, TorchRows rows) {
    try (PointerScope inner = new PointerScope()) {
      head.forward(c.hidden(), c.reference(), rows);
      return Oracle.doubles(head.backward(c.coefficients()));
    }
  }

  @Test
  void badInputIsRefusedWithWhatToDo() {
    Case c = Case.of(ROWS, ScalarType.Float, 31);
    TorchRows nll = c.rows(RowKind.NLL);
    try (TorchHead head = TorchHead.frozen(backend, c.weight(), ROWS - 1);
        TorchHead large = TorchHead.frozen(backend, c.weight(), ROWS);
        TorchHead trained = TorchHead.trained(backend, c.weight(), ROWS)) {
      refused("call forward first", () -> large.backward(c.coefficients()));
      refused("make it larger", () -> head.forward(c.hidden(), nll));
      refused("make it larger", () -> large.forward(c.hidden(), new TorchRows()));
      refused("[..., 44]", () -> large.forward(c.hidden().narrow(1, 0, 40).contiguous(), nll));
      refused("Float", () -> large.forward(c.hidden().to(ScalarType.BFloat16), nll));
      refused("contiguous()", () -> large.forward(c.hidden().narrow(1, 0, 40), nll));
      refused(
          "label 203",
          () -> large.forward(c.hidden(), new TorchRows().add(0, VOCABULARY, RowKind.NLL)));
      refused(
          "source 19", () -> large.forward(c.hidden(), new TorchRows().add(19, 1, RowKind.NLL)));
      refused("reference 19", () -> large.forward(c.hidden(), kl(19)));
      refused("without a label", () -> new TorchRows().add(0, -1, RowKind.NLL));
      refused("need one", () -> new TorchRows().add(0, 1, RowKind.REFERENCE_KL));
      refused("take -1", () -> new TorchRows().add(0, 1, RowKind.NLL, 2));
      refused("0 or more", () -> new TorchRows().add(-1, 1, RowKind.NLL));
      refused("freeze the head", () -> trained.forward(c.hidden(), kl(0)));
      large.forward(c.hidden(), nll);
      refused("give one for each", () -> large.backward(new double[3]));
      refused("TorchHead.trained", () -> large.backward(c.coefficients(), c.weight()));
      trained.forward(c.hidden(), nll);
      refused("weight's gradient", () -> trained.backward(c.coefficients()));
      refused("[203, 44]", () -> trained.backward(c.coefficients(), c.hidden()));
      refused("[V, d]", () -> TorchHead.frozen(backend, c.hidden().view(-1), 4));
      refused("at least 1", () -> TorchHead.frozen(backend, c.weight(), 0));
      // A refused pass leaves nothing to go back through.
      refused("Float", () -> large.forward(c.hidden().to(ScalarType.BFloat16), nll));
      refused("call forward first", () -> large.backward(c.coefficients()));
    }
  }

  private static TorchRows kl(int reference) {
    return new TorchRows().add(0, 1, RowKind.REFERENCE_KL, reference);
  }

  private static void refused(String remedy, Supplier<?> call) {
    UserException e = assertThrows(UserException.class, call::get);
    assertTrue(e.getMessage().contains(remedy), e.getMessage());
  }
}
